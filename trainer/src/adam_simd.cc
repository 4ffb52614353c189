// adam_update and sum_of_squares by Google Highway, compiled once per SIMD target of this file and
// chosen at run time.
//
// Same bits as the reference needs a MulAdd that rounds once. Highway's is a hardware fma on AVX2
// (which it pairs with FMA3), AVX3 and NEON of 64-bit Arm; on SSSE3, SSE4 and 32-bit NEON it is a
// product and a sum, so these are left out and such CPUs run the reference, whose std::fma is
// exact everywhere. SVE and RISC-V are left out because their vectors have no fixed size; SVE
// machines run NEON. Div and Sqrt are IEEE on all that remain.
#include <hwy/detect_compiler_arch.h>

// The targets' own names are known only inside Highway; expanded there, after these are defined.
#if HWY_ARCH_ARM_V7
#define HWY_DISABLED_TARGETS (HWY_NEON)
#else
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE_256 | HWY_SVE2 | HWY_SVE2_128 | HWY_RVV)
#endif

#include <iterator>
#include <numeric>

#include "spillway/trainer/adam.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/adam_simd.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target to compile for.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace spillway::trainer {
namespace HWY_NAMESPACE {

const char* simd_target() { return hwy::TargetName(HWY_TARGET); }

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

void update_bf16(const AdamConstants& constants, const AdamPlanesBf16& planes, std::size_t count) {
  adam_reference(constants, planes, count);
}

void update_fp32(const AdamConstants& constants, const AdamPlanesFp32& planes, std::size_t count) {
  adam_reference(constants, planes, count);
}

double sum_squares(const float* values, std::size_t count) {
  return sum_of_squares_reference(values, count);
}

#else

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using Floats = hn::Vec<FloatTag>;
using Bits32 = hn::RebindToUnsigned<FloatTag>;
using Int32 = hn::RebindToSigned<FloatTag>;
using Bits16 = hn::Rebind<std::uint16_t, FloatTag>;
using Int16 = hn::Rebind<std::int16_t, FloatTag>;

// One vector of master weights from and to the planes; hi_lo_split and hi_lo_join in vectors.
HWY_INLINE Floats load_param(const AdamPlanesBf16& planes, std::size_t i) {
  const auto hi = hn::PromoteTo(Bits32(), hn::LoadU(Bits16(), planes.param_hi + i));
  const auto lo =
      hn::PromoteTo(Int32(), hn::BitCast(Int16(), hn::LoadU(Bits16(), planes.param_lo + i)));
  const auto bits = hn::Add(hn::ShiftLeft<16>(hi), hn::BitCast(Bits32(), lo));
  return hn::BitCast(FloatTag(), bits);
}

HWY_INLINE void store_param(const AdamPlanesBf16& planes, std::size_t i, Floats master) {
  const auto canonical_nan = hn::BitCast(FloatTag(), hn::Set(Bits32(), 0x7fc00000));
  const auto bits = hn::BitCast(Bits32(), hn::IfThenElse(hn::IsNaN(master), canonical_nan, master));
  const auto hi = hn::ShiftRight<16>(hn::Add(bits, hn::Set(Bits32(), 0x8000)));
  hn::StoreU(hn::TruncateTo(Bits16(), hi), Bits16(), planes.param_hi + i);
  hn::StoreU(hn::TruncateTo(Bits16(), bits), Bits16(), planes.param_lo + i);
}

HWY_INLINE Floats load_param(const AdamPlanesFp32& planes, std::size_t i) {
  return hn::LoadU(FloatTag(), planes.param + i);
}

HWY_INLINE void store_param(const AdamPlanesFp32& planes, std::size_t i, Floats master) {
  hn::StoreU(master, FloatTag(), planes.param + i);
}

HWY_INLINE AdamPlanesBf16 advanced(const AdamPlanesBf16& planes, std::size_t i) {
  return {planes.param_hi + i, planes.param_lo + i, planes.exp_avg + i, planes.exp_avg_sq + i,
          planes.grad + i};
}

HWY_INLINE AdamPlanesFp32 advanced(const AdamPlanesFp32& planes, std::size_t i) {
  return {planes.param + i, planes.exp_avg + i, planes.exp_avg_sq + i, planes.grad + i};
}

// AdamConstants, each in every lane.
struct Constants {
  explicit Constants(const AdamConstants& c)
      : beta1(hn::Set(FloatTag(), c.beta1)),
        one_minus_beta1(hn::Set(FloatTag(), c.one_minus_beta1)),
        beta2(hn::Set(FloatTag(), c.beta2)),
        one_minus_beta2(hn::Set(FloatTag(), c.one_minus_beta2)),
        inv_sqrt_bias2(hn::Set(FloatTag(), c.inv_sqrt_bias2)),
        epsilon(hn::Set(FloatTag(), c.epsilon)),
        step_size(hn::Set(FloatTag(), c.step_size)),
        decay(hn::Set(FloatTag(), c.decay)),
        grad_scale(hn::Set(FloatTag(), c.grad_scale)) {}

  Floats beta1, one_minus_beta1, beta2, one_minus_beta2, inv_sqrt_bias2, epsilon, step_size, decay,
      grad_scale;
};

// The arithmetic of the header on kVectors vectors from element `i` on. All are loaded before the
// first is stored: longer bursts of each stream, which the memory answers faster.
template <std::size_t kVectors, typename Planes>
HWY_INLINE void update_at(const Constants& c, const Planes& planes, std::size_t i) {
  const FloatTag d;
  constexpr std::size_t kLanes = hn::MaxLanes(FloatTag());
  Floats param[kVectors], m[kVectors], v[kVectors], grad[kVectors];
  for (std::size_t k = 0; k < kVectors; ++k) {
    grad[k] = hn::LoadU(d, planes.grad + i + k * kLanes);
    m[k] = hn::LoadU(d, planes.exp_avg + i + k * kLanes);
    v[k] = hn::LoadU(d, planes.exp_avg_sq + i + k * kLanes);
    param[k] = load_param(planes, i + k * kLanes);
  }
  for (std::size_t k = 0; k < kVectors; ++k) {
    const auto g = hn::Mul(grad[k], c.grad_scale);
    m[k] = hn::MulAdd(c.beta1, m[k], hn::Mul(c.one_minus_beta1, g));
    v[k] = hn::MulAdd(c.beta2, v[k], hn::Mul(c.one_minus_beta2, hn::Mul(g, g)));
    const auto denominator = hn::Add(hn::Mul(hn::Sqrt(v[k]), c.inv_sqrt_bias2), c.epsilon);
    const auto decayed = hn::Mul(param[k], c.decay);
    param[k] = hn::NegMulAdd(c.step_size, hn::Div(m[k], denominator), decayed);
  }
  for (std::size_t k = 0; k < kVectors; ++k) {
    store_param(planes, i + k * kLanes, param[k]);
    hn::StoreU(m[k], d, planes.exp_avg + i + k * kLanes);
    hn::StoreU(v[k], d, planes.exp_avg_sq + i + k * kLanes);
  }
}

// What is left over after whole vectors is for the reference, which has the same bits.
template <typename Planes>
HWY_INLINE void update(const AdamConstants& constants, const Planes& planes, std::size_t count) {
  constexpr std::size_t kTogether = 4;
  constexpr std::size_t kLanes = hn::MaxLanes(FloatTag());
  const Constants c(constants);
  std::size_t i = 0;
  for (; count - i >= kTogether * kLanes; i += kTogether * kLanes) {
    update_at<kTogether>(c, planes, i);
  }
  for (; count - i >= kLanes; i += kLanes) {
    update_at<1>(c, planes, i);
  }
  adam_reference(constants, advanced(planes, i), count - i);
}

void update_bf16(const AdamConstants& constants, const AdamPlanesBf16& planes, std::size_t count) {
  update(constants, planes, count);
}

void update_fp32(const AdamConstants& constants, const AdamPlanesFp32& planes, std::size_t count) {
  update(constants, planes, count);
}

// Sum of squares of one whole block.
HWY_INLINE double sum_block(const float* values) {
  const hn::CappedTag<double, kSumLanes> d;
  const hn::Rebind<float, decltype(d)> floats;
  constexpr std::size_t kWidth = hn::MaxLanes(d);
  constexpr std::size_t kParts = kSumLanes / kWidth;
  hn::Vec<decltype(d)> sums[kParts];
  for (auto& sum : sums) {
    sum = hn::Zero(d);
  }
  for (std::size_t i = 0; i < kSumBlock; i += kSumLanes) {
    for (std::size_t part = 0; part < kParts; ++part) {
      const auto value = hn::PromoteTo(d, hn::LoadU(floats, values + i + part * kWidth));
      // The square of a float is exact in double: a fused sum has the bits of the reference's.
      sums[part] = hn::MulAdd(value, value, sums[part]);
    }
  }
  double lanes[kSumLanes];
  for (std::size_t part = 0; part < kParts; ++part) {
    hn::StoreU(sums[part], d, lanes + part * kWidth);
  }
  return std::accumulate(std::begin(lanes), std::end(lanes), 0.0);
}

double sum_squares(const float* values, std::size_t count) {
  double total = 0;
  std::size_t i = 0;
  for (; count - i >= kSumBlock; i += kSumBlock) {
    total += sum_block(values + i);
  }
  return total + sum_of_squares_reference(values + i, count - i);
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace spillway::trainer
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace spillway::trainer {

HWY_EXPORT(simd_target);
HWY_EXPORT(update_bf16);
HWY_EXPORT(update_fp32);
HWY_EXPORT(sum_squares);

void adam_update(const AdamConstants& constants, const AdamPlanesBf16& planes,
                 std::size_t count) noexcept {
  HWY_DYNAMIC_DISPATCH(update_bf16)(constants, planes, count);
}

void adam_update(const AdamConstants& constants, const AdamPlanesFp32& planes,
                 std::size_t count) noexcept {
  HWY_DYNAMIC_DISPATCH(update_fp32)(constants, planes, count);
}

double sum_of_squares(const float* values, std::size_t count) noexcept {
  return HWY_DYNAMIC_DISPATCH(sum_squares)(values, count);
}

const char* adam_simd_target() noexcept { return HWY_DYNAMIC_DISPATCH(simd_target)(); }

}  // namespace spillway::trainer
#endif
