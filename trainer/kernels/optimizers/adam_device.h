// Adam and AdamW on the GPU: the formula of adam.h in intrinsics, one rounding each. Included by
// update_cuda.cu alone.
#pragma once

#include "trainer/kernels/optimizers/adam.h"

namespace spillway::trainer {

// Updates both moments and returns m / d.
__device__ inline float adam_direction(const UpdateConstants& c, float g, float (&state)[2]) {
  state[0] = __fmaf_rn(c.beta1, state[0], __fmul_rn(c.one_minus_beta1, g));
  state[1] = __fmaf_rn(c.beta2, state[1], __fmul_rn(c.one_minus_beta2, __fmul_rn(g, g)));
  const float root = __fmul_rn(__fsqrt_rn(state[1]), c.inv_sqrt_bias2);
  return __fdiv_rn(state[0], __fadd_rn(root, c.epsilon));
}

__device__ inline float update_on_device(AdamW, const UpdateConstants& c, float p, float g,
                                         float (&state)[2]) {
  const float quotient = adam_direction(c, g, state);
  return __fmaf_rn(-c.step_size, quotient, __fmul_rn(p, c.decay));
}

__device__ inline float update_on_device(Adam, const UpdateConstants& c, float p, float g,
                                         float (&state)[2]) {
  const float quotient = adam_direction(c, __fmaf_rn(c.l2, p, g), state);
  return __fmaf_rn(-c.step_size, quotient, p);
}

}  // namespace spillway::trainer
