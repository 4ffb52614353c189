// ModelStates: a model's units, partitioned over the ranks, with their states in tiers.
//
// The constructor makes one unit at a time: it splits the unit's fp32 values into planes, writes
// them and drops them before the next, so the whole model never exists in one memory. Afterwards a
// unit's parameters are empty until a WeightFetcher fills them. Owns units and tiers. One thread at
// a time.
#pragma once

#include <spillway/trainer/communicator.h>
#include <spillway/trainer/config.h>
#include <spillway/trainer/trace.h>
#include <spillway/trainer/unit.h>
#include "trainer/plan/partition.h"
#include "trainer/states/state_tiers.h"

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace spillway::trainer {

class DeviceKind;

class ModelStates {
 public:
  // Throws Failure, and Interrupted once `stop` (may be null) is set: making a large model takes
  // minutes. All ranks call it with the same arguments.
  ModelStates(const Config& config, const ModelSpec& model, Communicator& communicator,
              at::Device device, const std::atomic<bool>* stop = nullptr,
              InitialValues initial = InitialValues::kOfSeed);

  struct UnitState {
    UnitPartition partition;
    std::shared_ptr<Unit> module;
    std::vector<at::Tensor> parameters;        // the module's own, in the partition's order
    swapper::TileId first_tile = 0;            // in weights(); its tiles follow each other
    swapper::TileId first_optimizer_tile = 0;  // of its trainable tiles, in optimizer()
    struct Borrowed {
      UnitId owner;
      std::uint32_t parameter;
    };
    std::vector<Borrowed> borrows;
    struct Buffer {
      std::string name;
      at::Tensor value;
    };
    std::vector<Buffer> buffers = {};
    // What is known of the module's forward, from its runs.
    struct Output {
      std::vector<std::vector<std::int64_t>> inputs;  // trailing sizes
      std::vector<std::int64_t> sizes;
      at::ScalarType type = at::kFloat;
    };
    std::map<std::uint32_t, Output> outputs = {};  // the last one of each method
    bool buffers_checked = false;                  // by value
    std::set<std::uint32_t> methods_checked = {};  // that use no other parameters
  };

  const Config& config() const noexcept { return config_; }
  Communicator& communicator() const noexcept { return *communicator_; }
  at::Device device() const noexcept { return device_; }
  const DeviceKind& device_kind() const noexcept { return kind_; }
  at::ScalarType weight_type() const noexcept;
  std::span<UnitState> units() noexcept { return units_; }
  std::span<const UnitState> units() const noexcept { return units_; }
  StateTiers& tiers() noexcept { return *tiers_; }
  const StateTiers& tiers() const noexcept { return *tiers_; }
  // Records what is done with the states; null (at first): nothing does.
  Trace* trace() const noexcept { return trace_; }
  void set_trace(Trace* trace) noexcept { trace_ = trace; }

  // True once every tile was written.
  bool has_values() const noexcept { return has_values_; }
  void set_has_values() noexcept { has_values_ = true; }

  std::uint64_t parameter_count() const;  // of the model, all ranks, no padding
  std::uint64_t trainable_parameter_count() const;
  // Returns the unit and the owners it borrows from, ascending, each once.
  std::vector<UnitId> units_needed(UnitId unit) const;
  // True once the user has asked to stop.
  bool stop_requested() const noexcept {
    return stop_ != nullptr && stop_->load(std::memory_order_relaxed);
  }

 private:
  void measure(const ModelSpec& model);
  void open_tiers();
  void initialise(const ModelSpec& model, InitialValues initial);
  void write_unit(UnitState& unit, const std::vector<at::Tensor>& values);
  void resolve_borrows(const ModelSpec& model);

  Config config_;
  bool has_values_ = false;
  Communicator* communicator_;
  at::Device device_;
  const DeviceKind& kind_;
  const std::atomic<bool>* stop_;
  Trace* trace_ = nullptr;
  std::vector<UnitState> units_;
  std::unique_ptr<StateTiers> tiers_;
};

}  // namespace spillway::trainer
