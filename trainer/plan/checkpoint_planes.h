// The planes of a checkpoint's extents, which follow from the number formats alone: one place for
// who writes them, reads them and predicts their bytes. Pure arithmetic.
#pragma once

#include <spillway/swapper/layout.h>
#include <spillway/trainer/config_types.h>

#include <cstdint>
#include <vector>

namespace spillway::trainer {

// The planes of an extent, in order: those of weight_layout, then those of optimizer_layout.
struct CheckpointPlanes {
  std::vector<swapper::Plane> all;
  std::uint32_t weight_count = 1;
};
CheckpointPlanes checkpoint_planes(const OptimizerFormat& format);
// Without padding.
std::uint64_t plane_bytes(const swapper::Plane& plane, std::uint64_t elements);

}  // namespace spillway::trainer
