// GradientStore: this rank's part of every trainable parameter's gradient, fp32, summed over a
// step, in page-locked RAM (in device memory when the optimizer's states are there).
//
// A unit's gradient may come in several contributions (a borrowed parameter gets one from each of
// its users); they are added in the order of backward, which every mode shares. Between steps
// `clear` marks everything as zero without touching memory. One thread at a time.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/pinned_pool/slab.h>
#include <spillway/trainer/model_states.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace spillway::trainer {

class GradientStore {
 public:
  explicit GradientStore(ModelStates& states);

  // Adds `gradient` to the sum of parameter `parameter` of `unit`, in fp32, where the chunk's
  // gradients are summed: on the device, over the whole unit.
  void add(UnitId unit, std::uint32_t parameter, const at::Tensor& gradient);
  // After the last chunk of a backward: reduce-scatters what `add` summed for the unit.
  void flush(UnitId unit);
  // Forgets the step's gradients.
  void clear();

  // This rank's part, flat, fp32; zeros where no gradient came. On the CPU, or on the device when
  // the optimizer's states are there.
  at::Tensor part(UnitId unit);
  // Square of the norm over all ranks: blocks summed in double in unit order (sum_of_squares).
  double squared_norm();
  std::uint64_t memory_bytes() const noexcept { return memory_bytes_; }

 private:
  at::Tensor whole(UnitId unit);

  ModelStates* states_;
  bool direct_;  // one rank and one memory: chunks are summed in the part itself
  std::optional<pinned_pool::Slab> slab_;
  std::vector<at::Tensor> parts_;           // per unit, views of one allocation
  std::vector<at::Tensor> whole_;           // per unit, while its backward runs
  std::vector<std::vector<bool>> started_;  // per unit and parameter: something was added
  std::vector<bool> flushed_;               // per unit: the part holds a contribution
  std::uint64_t memory_bytes_ = 0;
};

}  // namespace spillway::trainer
