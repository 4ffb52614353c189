// The choices of a Config: number formats, the optimizer, places of offloaded data, update orders.
//
// Plain values without behaviour. Every room may include this header, kernels too; it includes no
// other header of the trainer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace spillway::trainer {

enum class OptimizerKind : std::uint8_t {
  kAdamW,    // Adam with decoupled weight decay
  kAdam,     // Adam with L2: weight decay is added to the gradient
  kLion,     // one moment, steps by the sign
  kAdagrad,  // one accumulator; weight decay is added to the gradient
};

// Of weights and gradients. A bf16 weight keeps the rest of its fp32 master beside it (hi_lo.h).
enum class Dtype : std::uint8_t { kFp32, kBf16 };

// Of optimizer states. bf16 and int8 lose accuracy.
enum class StateDtype : std::uint8_t { kFp32, kBf16, kInt8 };

// Selects the layout of tiles (optimizer_layout.h) and the kernel of the update (update.h).
struct OptimizerFormat {
  OptimizerKind kind = OptimizerKind::kAdamW;
  Dtype weights = Dtype::kFp32;
  StateDtype states = StateDtype::kFp32;
  Dtype gradients = Dtype::kFp32;
};

// Returns the states of one parameter: 2 moments for Adam and AdamW, else 1.
constexpr std::uint32_t state_count(OptimizerKind kind) {
  return kind == OptimizerKind::kAdamW || kind == OptimizerKind::kAdam ? 2 : 1;
}

enum class OffloadDevice {
  kNone,  // stays where the units compute
  kCpu,
  kNvme,
};
// Returns the value as a configuration has it: "none", "cpu", "nvme".
const char* to_string(OffloadDevice device);

// When a step's tiles are updated. All orders give the same bits.
enum class UpdateOrder {
  kAuto,           // one of the others: see resolved_update_order (config.h)
  kAfterBackward,  // at the end of the step, which waits for the update
  kForward,        // in the background, each unit before its next forward
  kBackward,       // as soon as a unit's gradient is complete; other units as kForward
};
// Returns the value as a configuration has it: "auto", "after_backward", "forward", "backward".
const char* to_string(UpdateOrder order);

// Activations between units, from forward to backward.
struct ActivationConfig {
  bool checkpointing = true;  // false: keep the graph of forward and recompute nothing
  OffloadDevice device = OffloadDevice::kNone;
  std::filesystem::path nvme_path;  // required when device is kNvme
};

// Gradients, from backward to the update.
struct GradientConfig {
  Dtype dtype = Dtype::kFp32;           // of waiting gradients; sums are always fp32
  std::optional<OffloadDevice> device;  // kCpu or kNvme; unset: NVMe when RAM cannot hold them
  std::filesystem::path nvme_path;      // directory for device kNvme; empty: none is known
};

}  // namespace spillway::trainer
