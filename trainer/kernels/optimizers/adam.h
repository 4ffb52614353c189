// Adam and AdamW. The vectors (adam_simd.cc) and the GPU (adam_device.h) give the same bits.
//
//   g = fma(l2, p, g)                                         Adam
//   m = fma(beta1, m, (1 - beta1) * g)
//   v = fma(beta2, v, (1 - beta2) * (g * g))
//   d = sqrt(v) * inv_sqrt_bias2 + epsilon
//   p = fma(-step_size, m / d, p * decay)                     AdamW
//   p = fma(-step_size, m / d, p)                             Adam
//
// Adam: Kingma & Ba, "Adam" (2015), algorithm 1. AdamW: Loshchilov & Hutter, "Decoupled Weight
// Decay Regularization" (2019), algorithm 2.
#pragma once

#include <cmath>

#include "trainer/kernels/update_arithmetic.h"

namespace spillway::trainer {

// What both have in common.
struct AdamMoments {
  static constexpr std::uint32_t kStates = 2;
  static constexpr CodeBook kBooks[kStates] = {CodeBook::kSigned, CodeBook::kUnsigned};
  static constexpr bool kCorrectsBias = true;

  // Updates both moments and returns m / d.
  static float direction(const UpdateConstants& c, float g, float (&state)[kStates]) {
    state[0] = std::fma(c.beta1, state[0], c.one_minus_beta1 * g);
    state[1] = std::fma(c.beta2, state[1], c.one_minus_beta2 * (g * g));
    const float root = std::sqrt(state[1]) * c.inv_sqrt_bias2;
    const float denominator = root + c.epsilon;
    return state[0] / denominator;
  }
};

struct AdamW : AdamMoments {
  static constexpr OptimizerKind kKind = OptimizerKind::kAdamW;

  static float update(const UpdateConstants& c, float p, float g, float (&state)[kStates]) {
    const float quotient = direction(c, g, state);
    return std::fma(-c.step_size, quotient, p * c.decay);
  }
  static SimdKernels simd_kernels(const OptimizerFormat& format);
};

struct Adam : AdamMoments {
  static constexpr OptimizerKind kKind = OptimizerKind::kAdam;

  static float update(const UpdateConstants& c, float p, float g, float (&state)[kStates]) {
    const float quotient = direction(c, std::fma(c.l2, p, g), state);
    return std::fma(-c.step_size, quotient, p);
  }
  static SimdKernels simd_kernels(const OptimizerFormat& format);
};

}  // namespace spillway::trainer
