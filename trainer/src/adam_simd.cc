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

// The arithmetic of the header, whole vectors at a time; the rest (less than a vector) by the
// reference, which has the same bits.
template <typename Planes>
HWY_INLINE void update(const AdamConstants& constants, const Planes& planes, std::size_t count) {
  const FloatTag d;
  const auto beta1 = hn::Set(d, constants.beta1);
  const auto one_minus_beta1 = hn::Set(d, constants.one_minus_beta1);
  const auto beta2 = hn::Set(d, constants.beta2);
  const auto one_minus_beta2 = hn::Set(d, constants.one_minus_beta2);
  const auto inv_sqrt_bias2 = hn::Set(d, constants.inv_sqrt_bias2);
  const auto epsilon = hn::Set(d, constants.epsilon);
  const auto step_size = hn::Set(d, constants.step_size);
  const auto decay = hn::Set(d, constants.decay);
  const auto grad_scale = hn::Set(d, constants.grad_scale);
  const std::size_t whole = count - count % hn::Lanes(d);
  for (std::size_t i = 0; i < whole; i += hn::Lanes(d)) {
    const auto g = hn::Mul(hn::LoadU(d, planes.grad + i), grad_scale);
    const auto m = hn::MulAdd(beta1, hn::LoadU(d, planes.exp_avg + i), hn::Mul(one_minus_beta1, g));
    const auto v = hn::MulAdd(beta2, hn::LoadU(d, planes.exp_avg_sq + i),
                              hn::Mul(one_minus_beta2, hn::Mul(g, g)));
    const auto denominator = hn::Add(hn::Mul(hn::Sqrt(v), inv_sqrt_bias2), epsilon);
    const auto decayed = hn::Mul(load_param(planes, i), decay);
    store_param(planes, i, hn::NegMulAdd(step_size, hn::Div(m, denominator), decayed));
    hn::StoreU(m, d, planes.exp_avg + i);
    hn::StoreU(v, d, planes.exp_avg_sq + i);
  }
  adam_reference(constants, advanced(planes, whole), count - whole);
}

void update_bf16(const AdamConstants& constants, const AdamPlanesBf16& planes, std::size_t count) {
  update(constants, planes, count);
}

void update_fp32(const AdamConstants& constants, const AdamPlanesFp32& planes, std::size_t count) {
  update(constants, planes, count);
}

// Sums of squares of kBlocks adjacent whole blocks, added to `total` in order. One block has too
// few independent chains of sums to hide the latency of an addition; several at once do.
template <std::size_t kBlocks>
HWY_INLINE void add_blocks(const float* values, double& total) {
  const hn::CappedTag<double, kSumLanes> d;
  const hn::Rebind<float, decltype(d)> floats;
  constexpr std::size_t kWidth = hn::MaxLanes(d);
  constexpr std::size_t kParts = kSumLanes / kWidth;
  hn::Vec<decltype(d)> sums[kBlocks][kParts];
  for (auto& block : sums) {
    for (auto& sum : block) {
      sum = hn::Zero(d);
    }
  }
  for (std::size_t i = 0; i < kSumBlock; i += kSumLanes) {
    for (std::size_t block = 0; block < kBlocks; ++block) {
      for (std::size_t part = 0; part < kParts; ++part) {
        const float* place = values + block * kSumBlock + i + part * kWidth;
        const auto value = hn::PromoteTo(d, hn::LoadU(floats, place));
        // The square of a float is exact in double: a fused sum has the bits of the reference's.
        sums[block][part] = hn::MulAdd(value, value, sums[block][part]);
      }
    }
  }
  for (const auto& block : sums) {
    double lanes[kSumLanes];
    for (std::size_t part = 0; part < kParts; ++part) {
      hn::StoreU(block[part], d, lanes + part * kWidth);
    }
    total += std::accumulate(std::begin(lanes), std::end(lanes), 0.0);
  }
}

double sum_squares(const float* values, std::size_t count) {
  constexpr std::size_t kTogether = 4;
  double total = 0;
  std::size_t i = 0;
  for (; count - i >= kTogether * kSumBlock; i += kTogether * kSumBlock) {
    add_blocks<kTogether>(values + i, total);
  }
  for (; count - i >= kSumBlock; i += kSumBlock) {
    add_blocks<1>(values + i, total);
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
