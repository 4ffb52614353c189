// OptimizerFormat: which optimizer, and in which number formats its weights, states and gradients
// are kept. With it go the layouts of tiles (optimizer_layout.h) and the kernel of the update
// (optimizer_update.h).
#pragma once

#include <cstdint>

namespace spillway::trainer {

enum class OptimizerKind : std::uint8_t {
  kAdamW,    // Adam with decoupled weight decay
  kAdam,     // Adam with L2: weight decay is added to the gradient
  kLion,     // one moment, steps by the sign
  kAdagrad,  // one accumulator; weight decay is added to the gradient
};

// Of weights: bf16 means a bf16 weight with the rest of its fp32 master beside it (hi_lo.h).
enum class Dtype : std::uint8_t { kFp32, kBf16 };

// Of the optimizer's states. bf16 and int8 lose accuracy.
enum class StateDtype : std::uint8_t { kFp32, kBf16, kInt8 };

struct OptimizerFormat {
  OptimizerKind kind = OptimizerKind::kAdamW;
  Dtype weights = Dtype::kFp32;
  StateDtype states = StateDtype::kFp32;
  Dtype gradients = Dtype::kFp32;
};

// Moments or accumulators a parameter has: 2 with Adam and AdamW, else 1.
constexpr std::uint32_t state_count(OptimizerKind kind) {
  return kind == OptimizerKind::kAdamW || kind == OptimizerKind::kAdam ? 2 : 1;
}

}  // namespace spillway::trainer
