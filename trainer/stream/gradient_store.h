// GradientStore: this rank's part of every trainable parameter's gradient, from backward to update.
//
// Where: page-locked RAM (device memory when the optimizer's states are there), or a tile store of
// its own on NVMe when it is told so or RAM cannot hold them. In what: fp32, or bf16.
// A unit's gradient may come in several contributions (a borrowed parameter gets one from each of
// its users, each of several chunks). They are summed in fp32 in the order of backward, which every
// mode shares, until the gradient is final: when backward has run through all of the unit's runs
// that the forward recorded, or at `squared_norm` at the latest. Then the norm is taken, the sum is
// rounded once (bf16), and it leaves for its place. So the bits are the same wherever it goes.
//
// The gradients stay until `clear`, also while the next forward records its runs. One thread at a
// time; what `stored_part` returned may be read by another.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/pinned_pool/slab.h>
#include <spillway/swapper/tile_stream.h>
#include "trainer/plan/backward_memory.h"
#include "trainer/states/model_states.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace spillway::trainer {

class GradientSpill;

class GradientStore {
 public:
  explicit GradientStore(ModelStates& states);
  ~GradientStore();

  // A run that the forward has recorded: until backward has ended it, or its graph is dropped, the
  // gradients of the units it uses are not final. May outlive the store. Move-only.
  class Expected {
   public:
    Expected() = default;
    Expected(Expected&& other) noexcept { *this = std::move(other); }
    Expected& operator=(Expected&& other) noexcept;
    ~Expected() { end(); }
    void end() noexcept;

   private:
    friend class GradientStore;
    using Counts = std::vector<std::uint32_t>;
    Expected(std::weak_ptr<Counts> counts, std::vector<UnitId> units);
    std::weak_ptr<Counts> counts_;
    std::vector<UnitId> units_;
  };
  Expected expect(const std::vector<UnitId>& units) { return Expected(expected_, units); }

  // Adds `gradient` to the sum of parameter `parameter` of `unit`, in fp32, where the chunk's
  // gradients are summed: on the device, over the whole unit. Throws Failure once closed.
  void add(UnitId unit, std::uint32_t parameter, const at::Tensor& gradient);
  // After the last chunk of a backward: reduce-scatters what `add` summed for the unit, and lets it
  // leave when it is final. Throws Failure.
  void flush(UnitId unit);
  // Forgets the step's gradients, and is open for those of the next. REQUIRES: they are used no
  // more.
  void clear();
  // The step's gradients are complete: whatever comes before `clear` is an error.
  void close() noexcept { closed_ = true; }

  // This rank's part, flat, fp32 or bf16; zeros where no gradient came. On the CPU, or on the
  // device when the optimizer's states are there. The same memory in every step; its values once
  // the unit is final. REQUIRES: not on_nvme().
  const at::Tensor& part(UnitId unit) const;
  // From here on it is called with each unit that becomes final, which then stays so: more for it
  // throws Failure. By the thread that runs backward; {} ends it.
  void when_final(std::function<void(UnitId)> is_final) { is_final_ = std::move(is_final); }
  // The units in the order in which they became final since `clear`, or before it.
  const std::vector<UnitId>& final_order() const noexcept { return final_order_; }
  // Where it lies on NVMe (one plane, "gradient"), to be read by an update; empty when it is not
  // there. `trainable_tile`: number among the unit's trainable tiles. Valid for the store's life;
  // its bytes from squared_norm() to clear().
  std::optional<swapper::Part> stored_part(UnitId unit, std::uint32_t trainable_tile) const;
  bool on_nvme() const noexcept { return spill_ != nullptr; }
  // Makes all final. Square of the norm over all ranks: of the fp32 sums, blocks summed in double
  // in unit order (sum_of_squares). Blocks until all is in its place. Throws Failure.
  double squared_norm();
  // What norms took since the last call: most of them while backward runs.
  double take_norm_seconds() noexcept { return std::exchange(norm_seconds_, 0); }

  // Held for a whole step, without the I/O buffers, and the most that sums have taken beside it.
  std::uint64_t memory_bytes() const noexcept { return memory_bytes_; }
  std::uint64_t peak_sum_bytes() const noexcept { return peak_sum_bytes_; }
  std::uint64_t storage_bytes() const noexcept;

 private:
  struct UnitGradient {
    at::Tensor kept;            // where it waits, when it does so in memory
    at::Tensor sum;             // of this rank's part, fp32; `kept` itself where that is possible
    at::Tensor whole;           // of all ranks' parts, while a backward runs
    std::vector<bool> started;  // per parameter: something was added to the sum (or the whole)
    bool touched = false;       // the sum holds a contribution
    bool final = false;
    double squared_norm = 0;
  };

  void place(const GradientPlan& plan);
  GradientPlan plan() const;
  void begin_sum(UnitId unit);
  at::Tensor take_sum(std::int64_t elements);
  void zero_rest(UnitId unit);
  void add_part(UnitId unit);
  void finish(UnitId unit);

  ModelStates* states_;
  bool direct_;      // one rank and one memory: chunks are summed in the part itself
  bool sums_apart_;  // they leave for another place or another format
  std::optional<pinned_pool::Slab> slab_;
  std::unique_ptr<GradientSpill> spill_;
  std::vector<UnitGradient> units_;
  std::shared_ptr<Expected::Counts> expected_;  // shared with graphs, which may outlive this
  std::vector<at::Tensor> spare_;               // memory of sums, to use again
  std::function<void(UnitId)> is_final_;
  std::vector<UnitId> final_order_;
  bool cleared_ = true;
  bool closed_ = false;
  double norm_seconds_ = 0;
  std::uint64_t memory_bytes_ = 0;
  std::uint64_t sum_bytes_ = 0;
  std::uint64_t peak_sum_bytes_ = 0;
};

}  // namespace spillway::trainer
