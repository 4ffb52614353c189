// Adagrad. The vectors (adagrad_simd.cc) and the GPU (adagrad_device.h) give the same bits.
//
//   g = fma(l2, p, g)
//   s = fma(g, g, s)
//   p = fma(-step_size, g / (sqrt(s) + epsilon), p)
//
// Duchi et al. (2011), diagonal, as torch.optim.Adagrad.
#pragma once

#include <cmath>

#include "trainer/kernels/update_arithmetic.h"

namespace spillway::trainer {

struct Adagrad {
  static constexpr OptimizerKind kKind = OptimizerKind::kAdagrad;
  static constexpr std::uint32_t kStates = 1;
  static constexpr CodeBook kBooks[kStates] = {CodeBook::kUnsigned};
  static constexpr bool kCorrectsBias = false;

  static float update(const UpdateConstants& c, float p, float grad, float (&state)[kStates]) {
    const float g = std::fma(c.l2, p, grad);
    state[0] = std::fma(g, g, state[0]);
    const float denominator = std::sqrt(state[0]) + c.epsilon;
    return std::fma(-c.step_size, g / denominator, p);
  }
  static SimdKernels simd_kernels(const OptimizerFormat& format);
};

}  // namespace spillway::trainer
