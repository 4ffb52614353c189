// Lion on the GPU: the formula of lion.h in intrinsics, one rounding each. Included by
// update_cuda.cu alone.
#pragma once

#include "trainer/kernels/optimizers/lion.h"

namespace spillway::trainer {

__device__ inline float update_on_device(Lion, const UpdateConstants& c, float p, float g,
                                         float (&state)[1]) {
  const float u = __fmaf_rn(c.beta1, state[0], __fmul_rn(c.one_minus_beta1, g));
  const float sign = u > 0 ? 1.0f : u < 0 ? -1.0f : u;
  state[0] = __fmaf_rn(c.beta2, state[0], __fmul_rn(c.one_minus_beta2, g));
  return __fmaf_rn(-c.step_size, sign, __fmul_rn(p, c.decay));
}

}  // namespace spillway::trainer
