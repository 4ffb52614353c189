// Adam and AdamW by Google Highway: the formula of adam.h on vectors, compiled once per SIMD target
// of this file.
#include "trainer/kernels/optimizers/adam.h"
#include "trainer/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trainer/kernels/optimizers/adam_simd.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target to compile for.
#include <hwy/highway.h>

#include "trainer/kernels/update_simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace spillway::trainer {
namespace HWY_NAMESPACE {

// Updates both moments and returns m / d.
template <typename Constants, typename V>
HWY_INLINE V adam_direction(const Constants& c, V g, V& m, V& v) {
  m = hn::MulAdd(c.beta1, m, hn::Mul(c.one_minus_beta1, g));
  v = hn::MulAdd(c.beta2, v, hn::Mul(c.one_minus_beta2, hn::Mul(g, g)));
  return hn::Div(m, hn::Add(hn::Mul(hn::Sqrt(v), c.inv_sqrt_bias2), c.epsilon));
}

struct AdamWVectors {
  using Optimizer = AdamW;
  static constexpr bool kWeightShowsNan = true;

  template <typename Constants, typename V>
  static HWY_INLINE void update(const Constants& c, V g, V& p, V& m, V& v) {
    const auto quotient = adam_direction(c, g, m, v);
    p = hn::NegMulAdd(c.step_size, quotient, hn::Mul(p, c.decay));
  }
};

struct AdamVectors {
  using Optimizer = Adam;
  static constexpr bool kWeightShowsNan = true;

  template <typename Constants, typename V>
  static HWY_INLINE void update(const Constants& c, V g, V& p, V& m, V& v) {
    const auto quotient = adam_direction(c, hn::MulAdd(c.l2, p, g), m, v);
    p = hn::NegMulAdd(c.step_size, quotient, p);
  }
};

SimdKernels adamw_kernels(const OptimizerFormat& format) {
  return kernels_of<AdamWVectors>(format);
}

SimdKernels adam_kernels(const OptimizerFormat& format) { return kernels_of<AdamVectors>(format); }

}  // namespace HWY_NAMESPACE
}  // namespace spillway::trainer
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace spillway::trainer {

HWY_EXPORT(adamw_kernels);
HWY_EXPORT(adam_kernels);

SimdKernels AdamW::simd_kernels(const OptimizerFormat& format) {
  return HWY_DYNAMIC_DISPATCH(adamw_kernels)(format);
}

SimdKernels Adam::simd_kernels(const OptimizerFormat& format) {
  return HWY_DYNAMIC_DISPATCH(adam_kernels)(format);
}

}  // namespace spillway::trainer
#endif
