// TensorDestination: the weights of a unit go into a tensor, in host or in device memory.
//
// Copies to a device have a stream of their own. It starts after the kernels that still read the
// memory for the unit that had it before.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>
#include "trainer/states/incoming_unit.h"

#include <optional>

namespace spillway::trainer {

class TensorDestination final : public WeightDestination {
 public:
  // `part`: this rank's share, contiguous. Shares its memory.
  explicit TensorDestination(const at::Tensor& part);

  void copy(std::uint64_t offset_bytes, std::span<const std::byte> weights) override;

 private:
  const at::Tensor bytes_;
  std::optional<c10::Stream> stream_;  // of the copies, if the device has memory of its own
};

}  // namespace spillway::trainer
