#include "trainer/plan/checkpoint_planes.h"

#include "trainer/plan/optimizer_layout.h"

namespace spillway::trainer {

CheckpointPlanes checkpoint_planes(const OptimizerFormat& format) {
  Config config;
  config.dtype = format.weights;
  config.optimizer.kind = format.kind;
  config.optimizer.state_dtype = format.states;
  CheckpointPlanes planes{weight_layout(config).planes(), 0};
  planes.weight_count = static_cast<std::uint32_t>(planes.all.size());
  const swapper::Layout states = optimizer_layout(config);
  planes.all.insert(planes.all.end(), states.planes().begin(), states.planes().end());
  return planes;
}

std::uint64_t plane_bytes(const swapper::Plane& plane, std::uint64_t elements) {
  const std::uint64_t blocks = (elements + plane.elements_per_block - 1) / plane.elements_per_block;
  return blocks * plane.bytes_per_block;
}

}  // namespace spillway::trainer
