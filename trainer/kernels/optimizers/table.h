// The table of optimizers; README.md says how to add one. The struct of an optimizer has:
//
//   kKind, kStates   its OptimizerKind, and how many states a parameter has
//   kBooks           how each state is coded in int8
//   kCorrectsBias    true if step_size is learning_rate / (1 - beta1^step)
//   update           the plain form, which defines the result. Returns the new weight and replaces
//                    the states; `g` is unscaled and clipped. Each line rounds once:
//                    -ffp-contract=off keeps the compiler from fusing what is not written as fma
//   simd_kernels     returns its kernels for a format (<name>_simd.cc)
#pragma once

#include "trainer/kernels/optimizers/adagrad.h"
#include "trainer/kernels/optimizers/adam.h"
#include "trainer/kernels/optimizers/lion.h"

namespace spillway::trainer {

// Returns body.operator()<Optimizer>() for the optimizer of `kind`.
template <typename Body>
auto with_optimizer(OptimizerKind kind, const Body& body) {
  switch (kind) {
    case OptimizerKind::kAdam:
      return body.template operator()<Adam>();
    case OptimizerKind::kLion:
      return body.template operator()<Lion>();
    case OptimizerKind::kAdagrad:
      return body.template operator()<Adagrad>();
    case OptimizerKind::kAdamW:
      break;
  }
  return body.template operator()<AdamW>();
}

}  // namespace spillway::trainer
