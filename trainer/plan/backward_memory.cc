#include "trainer/plan/backward_memory.h"
#include <spillway/pinned_pool/limits.h>
#include <spillway/swapper/layout.h>

#include <algorithm>
#include <numeric>

namespace spillway::trainer {
namespace {

using pinned_pool::format_bytes;

std::uint64_t element_bytes(Dtype dtype) { return dtype == Dtype::kBf16 ? 2 : 4; }

std::uint64_t whole_pages(std::uint64_t bytes) {
  return (bytes + swapper::kPlaneAlignment - 1) / swapper::kPlaneAlignment *
         swapper::kPlaneAlignment;
}

}  // namespace

std::uint64_t activation_buffers(std::uint64_t bytes) {
  const std::uint64_t tiles = (bytes + kActivationTileBytes - 1) / kActivationTileBytes;
  return std::clamp(2 * tiles, kMinActivationBuffers, kMaxActivationBuffers);
}

WaitingBytes activation_bytes(const ActivationConfig& config, const ActivationSizes& sizes) {
  WaitingBytes held;
  if (sizes.bytes.empty()) return held;
  const std::uint64_t all =
      std::accumulate(sizes.bytes.begin(), sizes.bytes.end(), std::uint64_t{0});
  if (!config.checkpointing) {
    held.computing = all + sizes.bytes.size() * sizes.graph_bytes;
    return held;
  }
  if (config.device == OffloadDevice::kNone) {
    held.computing = all;
    return held;
  }
  held.computing = sizes.largest();
  // The last one of forward is needed first, and stays.
  std::uint64_t moved = 0;
  for (std::size_t i = 0; i + 1 < sizes.bytes.size(); ++i) moved += whole_pages(sizes.bytes[i]);
  if (config.device == OffloadDevice::kCpu) {
    held.ram = moved;
  } else if (moved > 0) {
    held.buffers = activation_buffers(sizes.largest()) * kActivationTileBytes;
    held.nvme = moved;
  }
  return held;
}

GradientPlan plan_gradients(const GradientConfig& config, const GradientSizes& sizes,
                            std::uint64_t free_bytes) {
  GradientPlan plan;
  const std::uint64_t width = element_bytes(config.dtype);
  const std::uint64_t held = sizes.elements * width;
  // The sum of a unit is fp32, and there while its backward runs, whatever the gradients are kept
  // in; with several ranks or a GPU there is one of the whole unit and one of the part.
  const std::uint64_t sums = 2 * sizes.largest_unit * sizeof(float);
  const std::uint64_t wanted = held + sums + sizes.weights_bytes;
  const std::uint64_t usable = free_bytes / 4 * 3;
  const bool open = !config.device.has_value();
  const bool fits = wanted <= usable;
  const bool on_nvme = open ? !fits && !config.nvme_path.empty() && held > 0
                            : *config.device == OffloadDevice::kNvme;
  if (!on_nvme) {
    plan.bytes.ram = held;
    if (open && !fits && held > 0) {
      plan.reason = "may not fit into memory, and no nvme_path is given: " + format_bytes(held);
    }
    return plan;
  }
  plan.device = OffloadDevice::kNvme;
  plan.bytes.nvme = held;
  plan.bytes.buffers = 2 * kGradientBuffers * whole_pages(sizes.largest_tile * width);
  plan.bytes.computing = sizes.largest_unit * sizeof(float);
  plan.reason = !open ? "as configured"
                      : format_bytes(held) + " with " + format_bytes(sums + sizes.weights_bytes) +
                            " for the largest unit do not fit into three quarters of " +
                            format_bytes(free_bytes) + " of free memory";
  return plan;
}

}  // namespace spillway::trainer
