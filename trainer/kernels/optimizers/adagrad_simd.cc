// Adagrad by Google Highway: the formula of adagrad.h on vectors, compiled once per SIMD target of
// this file.
#include "trainer/kernels/optimizers/adagrad.h"
#include "trainer/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trainer/kernels/optimizers/adagrad_simd.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target to compile for.
#include <hwy/highway.h>

#include "trainer/kernels/update_simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace spillway::trainer {
namespace HWY_NAMESPACE {

struct AdagradVectors {
  using Optimizer = Adagrad;
  static constexpr bool kWeightShowsNan = true;

  template <typename Constants, typename V>
  static HWY_INLINE void update(const Constants& c, V grad, V& p, V& sum, V&) {
    const auto g = hn::MulAdd(c.l2, p, grad);
    sum = hn::MulAdd(g, g, sum);
    p = hn::NegMulAdd(c.step_size, hn::Div(g, hn::Add(hn::Sqrt(sum), c.epsilon)), p);
  }
};

SimdKernels adagrad_kernels(const OptimizerFormat& format) {
  return kernels_of<AdagradVectors>(format);
}

}  // namespace HWY_NAMESPACE
}  // namespace spillway::trainer
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace spillway::trainer {

HWY_EXPORT(adagrad_kernels);

SimdKernels Adagrad::simd_kernels(const OptimizerFormat& format) {
  return HWY_DYNAMIC_DISPATCH(adagrad_kernels)(format);
}

}  // namespace spillway::trainer
#endif
