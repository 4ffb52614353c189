// Adagrad on the GPU: the formula of adagrad.h in intrinsics, one rounding each. Included by
// update_cuda.cu alone.
#pragma once

#include "trainer/kernels/optimizers/adagrad.h"

namespace spillway::trainer {

__device__ inline float update_on_device(Adagrad, const UpdateConstants& c, float p, float grad,
                                         float (&state)[1]) {
  const float g = __fmaf_rn(c.l2, p, grad);
  state[0] = __fmaf_rn(g, g, state[0]);
  return __fmaf_rn(-c.step_size, __fdiv_rn(g, __fadd_rn(__fsqrt_rn(state[0]), c.epsilon)), p);
}

}  // namespace spillway::trainer
