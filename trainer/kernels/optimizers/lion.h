// Lion. The vectors (lion_simd.cc) and the GPU (lion_device.h) give the same bits.
//
//   u = fma(beta1, m, (1 - beta1) * g)
//   p = fma(-step_size, sign(u), p * decay)                   sign of 0 is 0, of NaN is NaN
//   m = fma(beta2, m, (1 - beta2) * g)
//
// Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023), algorithm 2.
#pragma once

#include <cmath>

#include "trainer/kernels/update_arithmetic.h"

namespace spillway::trainer {

struct Lion {
  static constexpr OptimizerKind kKind = OptimizerKind::kLion;
  static constexpr std::uint32_t kStates = 1;
  static constexpr CodeBook kBooks[kStates] = {CodeBook::kSigned};
  static constexpr bool kCorrectsBias = false;

  static float update(const UpdateConstants& c, float p, float g, float (&state)[kStates]) {
    const float u = std::fma(c.beta1, state[0], c.one_minus_beta1 * g);
    state[0] = std::fma(c.beta2, state[0], c.one_minus_beta2 * g);
    const float sign = u > 0 ? 1.0f : u < 0 ? -1.0f : u;
    return std::fma(-c.step_size, sign, p * c.decay);
  }
  static SimdKernels simd_kernels(const OptimizerFormat& format);
};

}  // namespace spillway::trainer
