// What backward needs and leaves, as configured: activations between units, gradients.
#pragma once

#include "trainer/kernels/optimizer_format.h"

#include <cstdint>
#include <filesystem>
#include <optional>

namespace spillway::trainer {

enum class OffloadDevice { kNone, kCpu, kNvme };
const char* to_string(OffloadDevice device);

// Between the units, from forward to backward.
struct ActivationConfig {
  bool checkpointing = true;  // false: the forward's graph is kept, nothing is recomputed
  OffloadDevice device = OffloadDevice::kNone;  // kNone: where the units compute
  std::filesystem::path nvme_path;              // required when device is nvme
};

// From backward to the update.
struct GradientConfig {
  Dtype dtype = Dtype::kFp32;           // in which they wait; they are summed in fp32
  std::optional<OffloadDevice> device;  // kCpu or kNvme; unset: NVMe when RAM cannot hold them
  std::filesystem::path nvme_path;      // where they go then; empty: nowhere
};

}  // namespace spillway::trainer
