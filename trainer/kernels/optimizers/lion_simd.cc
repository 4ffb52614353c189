// Lion by Google Highway: the formula of lion.h on vectors, compiled once per SIMD target of this
// file.
#include "trainer/kernels/optimizers/lion.h"
#include "trainer/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trainer/kernels/optimizers/lion_simd.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target to compile for.
#include <hwy/highway.h>

#include "trainer/kernels/update_simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace spillway::trainer {
namespace HWY_NAMESPACE {

struct LionVectors {
  using Optimizer = Lion;
  // A step is at most step_size, whatever the new moment is.
  static constexpr bool kWeightShowsNan = false;

  template <typename V>
  static HWY_INLINE V sign(V value) {
    const hn::DFromV<V> tag;
    const auto zero = hn::Zero(tag);
    const auto one = hn::Set(tag, 1.0f);
    const auto negative = hn::IfThenElse(hn::Lt(value, zero), hn::Neg(one), value);
    return hn::IfThenElse(hn::Gt(value, zero), one, negative);
  }

  template <typename Constants, typename V>
  static HWY_INLINE void update(const Constants& c, V g, V& p, V& m, V&) {
    const auto u = hn::MulAdd(c.beta1, m, hn::Mul(c.one_minus_beta1, g));
    m = hn::MulAdd(c.beta2, m, hn::Mul(c.one_minus_beta2, g));
    p = hn::NegMulAdd(c.step_size, sign(u), hn::Mul(p, c.decay));
  }
};

SimdKernels lion_kernels(const OptimizerFormat& format) { return kernels_of<LionVectors>(format); }

}  // namespace HWY_NAMESPACE
}  // namespace spillway::trainer
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace spillway::trainer {

HWY_EXPORT(lion_kernels);

SimdKernels Lion::simd_kernels(const OptimizerFormat& format) {
  return HWY_DYNAMIC_DISPATCH(lion_kernels)(format);
}

}  // namespace spillway::trainer
#endif
