#include "trainer/plan/optimizer_layout.h"

#include <spillway/aio/check.h>
#include "trainer/kernels/block_quantisation.h"

#include <algorithm>
#include <string>
#include <vector>

namespace spillway::trainer {
namespace {

std::vector<std::string> state_names(OptimizerKind kind) {
  if (kind == OptimizerKind::kAdagrad) return {"sum"};
  if (kind == OptimizerKind::kLion) return {"exp_avg"};
  return {"exp_avg", "exp_avg_sq"};
}

}  // namespace

OptimizerFormat optimizer_format(const Config& config) {
  return {.kind = config.optimizer.kind,
          .weights = config.dtype,
          .states = config.optimizer.state_dtype};
}

std::uint64_t tile_elements(const Config& config, std::uint64_t most) {
  const std::uint64_t elements = std::min(config.sub_group_size, most);
  if (config.optimizer.state_dtype != StateDtype::kInt8) return elements;
  return std::max<std::uint64_t>(elements / kQuantisedBlock, 1) * kQuantisedBlock;
}

double bytes_per_element(const swapper::Layout& layout) {
  double bytes = 0;
  for (const swapper::Plane& plane : layout.planes()) {
    bytes += static_cast<double>(plane.bytes_per_block) / plane.elements_per_block;
  }
  return bytes;
}

swapper::Layout weight_layout(const Config& config) {
  return weight_layout(optimizer_format(config));
}

swapper::Layout weight_layout(const OptimizerFormat& format) {
  if (format.weights == Dtype::kBf16) return swapper::Layout({{"param_hi", 2}});
  return swapper::Layout({{"param", 4}});
}

swapper::Layout optimizer_layout(const Config& config) {
  return optimizer_layout(optimizer_format(config));
}

swapper::Layout optimizer_layout(const OptimizerFormat& format) {
  std::vector<swapper::Plane> planes;
  if (format.weights == Dtype::kBf16) planes.push_back({"param_lo", 2});
  const std::vector<std::string> names = state_names(format.kind);
  const std::uint32_t bytes = format.states == StateDtype::kInt8   ? 1
                              : format.states == StateDtype::kBf16 ? 2
                                                                   : 4;
  for (const std::string& name : names) planes.push_back({name, bytes});
  if (format.states == StateDtype::kInt8) {
    for (const std::string& name : names) planes.push_back({name + "_absmax", 4, kQuantisedBlock});
  }
  return swapper::Layout(std::move(planes));
}

UpdatePlanes update_planes(const OptimizerFormat& format, std::byte* weight,
                           std::span<std::byte* const> states) {
  const std::uint32_t first = format.weights == Dtype::kBf16 ? 1 : 0;
  const std::uint32_t count = state_count(format.kind);
  const bool blocks = format.states == StateDtype::kInt8;
  SPILLWAY_CHECK(states.size() == first + (blocks ? 2 : 1) * count,
                 "one address for each plane of optimizer_layout");
  UpdatePlanes planes{.format = format, .weight = weight};
  if (first == 1) planes.weight_lo = reinterpret_cast<std::uint16_t*>(states[0]);
  for (std::uint32_t i = 0; i < count; ++i) {
    planes.states[i] = states[first + i];
    if (blocks) planes.absmax[i] = reinterpret_cast<float*>(states[first + count + i]);
  }
  return planes;
}

std::span<const swapper::BlockHash> weight_hashes(const UpdateHashes& hashes) {
  return std::span(hashes.planes).first(1);
}

std::span<const swapper::BlockHash> state_hashes(const UpdateHashes& hashes,
                                                 const OptimizerFormat& format) {
  const std::size_t lo = format.weights == Dtype::kBf16 ? 1 : 0;
  const std::size_t a_state = format.states == StateDtype::kInt8 ? 2 : 1;
  return std::span(hashes.planes).subspan(1, lo + a_state * state_count(format.kind));
}

}  // namespace spillway::trainer
