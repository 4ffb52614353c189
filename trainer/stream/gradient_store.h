// GradientStore: this rank's part of every trainable parameter's gradient, from backward to update.
//
// Gradients wait in page-locked RAM, in device memory if the optimizer's states are there, or on
// NVMe if configured or if RAM cannot hold them; in fp32 or bf16. A unit may get several
// contributions (one from each user of a parameter, from each chunk). They are summed in fp32 in
// the order of backward, the same in every mode. A gradient is final once backward has run all of
// the unit's recorded runs, at `squared_norm` at the latest: its norm is taken, the sum is rounded
// once (bf16) and moved to its place. So the bits do not depend on the place. Gradients stay until
// `clear`. One thread at a time; another may read what `stored_part` returned.
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

  // A run that forward has recorded. The gradients of its units are not final until backward ends
  // it or its graph is dropped. May outlive the store. Move-only.
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

  // Adds `gradient` to the fp32 sum of parameter `parameter` of `unit`, on the device. Throws
  // Failure once closed.
  void add(UnitId unit, std::uint32_t parameter, const at::Tensor& gradient);
  // Reduce-scatters what `add` summed for the unit, after the last chunk of a backward, and moves
  // the gradient to its place if it is final. Throws Failure.
  void flush(UnitId unit);
  // Drops the step's gradients and opens for those of the next. REQUIRES: nobody uses them.
  void clear();
  // Makes any `add` before the next `clear` an error: the step's gradients are complete.
  void close() noexcept { closed_ = true; }

  // Returns this rank's part, flat, fp32 or bf16, zeros where no gradient came. On the CPU, or on
  // the device if the optimizer's states are there. The same memory in every step; valid once the
  // unit is final. REQUIRES: not on_nvme().
  const at::Tensor& part(UnitId unit) const;
  // Calls `is_final` with each unit that becomes final from now on, on the thread of backward; {}
  // ends it. While it is set, an `add` to a final unit throws Failure.
  void when_final(std::function<void(UnitId)> is_final) { is_final_ = std::move(is_final); }
  // Returns the units in the order in which they became final in the last step.
  const std::vector<UnitId>& final_order() const noexcept { return final_order_; }
  // Returns where a tile's gradient lies on NVMe (one plane, "gradient"), for an update to read;
  // nothing if it is not there. `trainable_tile`: number among the unit's trainable tiles. Valid
  // for the store's life; its bytes from squared_norm() to clear().
  std::optional<swapper::Part> stored_part(UnitId unit, std::uint32_t trainable_tile) const;
  bool on_nvme() const noexcept { return spill_ != nullptr; }
  // Makes all gradients final and returns the squared norm over all ranks: of the fp32 sums, blocks
  // summed in double in unit order (sum_of_squares). Blocks until all are in their place. Throws
  // Failure.
  double squared_norm();
  // Returns the seconds that norms took since the last call, most of them during backward.
  double take_norm_seconds() noexcept { return std::exchange(norm_seconds_, 0); }

  // Bytes held for a whole step, without I/O buffers; and the most that sums took beside them.
  std::uint64_t memory_bytes() const noexcept { return memory_bytes_; }
  std::uint64_t peak_sum_bytes() const noexcept { return peak_sum_bytes_; }
  std::uint64_t storage_bytes() const noexcept;

 private:
  struct UnitGradient {
    at::Tensor kept;            // its place, if that is memory
    at::Tensor sum;             // of this rank's part, fp32; `kept` itself where possible
    at::Tensor whole;           // of all ranks' parts, during a backward
    std::vector<bool> started;  // per parameter: the sum (or the whole) has a contribution
    bool touched = false;       // the sum has a contribution
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
  bool sums_apart_;  // sums move to another place or another format
  std::optional<pinned_pool::Slab> slab_;
  std::unique_ptr<GradientSpill> spill_;
  std::vector<UnitGradient> units_;
  std::shared_ptr<Expected::Counts> expected_;  // shared with graphs, which may outlive this
  std::vector<at::Tensor> spare_;               // memory of sums, for reuse
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
