// sum_of_squares by Google Highway, compiled once per SIMD target of this file and chosen at run
// time.
#include <iterator>
#include <numeric>

#include "trainer/kernels/simd_targets.h"
#include "trainer/kernels/sum_of_squares.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trainer/kernels/sum_of_squares_simd.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target to compile for.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace spillway::trainer {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

double sum_fp32(const float* values, std::size_t count) {
  return sum_of_squares_reference(values, count);
}

double sum_bf16(const std::uint16_t* values, std::size_t count) {
  return sum_of_squares_reference(values, count);
}

#else

namespace hn = hwy::HWY_NAMESPACE;

using DoubleTag = hn::CappedTag<double, kSumLanes>;
using FloatTag = hn::Rebind<float, DoubleTag>;

HWY_INLINE hn::Vec<FloatTag> load(const float* values) { return hn::LoadU(FloatTag(), values); }

HWY_INLINE hn::Vec<FloatTag> load(const std::uint16_t* values) {
  const hn::Rebind<std::uint16_t, FloatTag> halves;
  const hn::Rebind<std::uint32_t, FloatTag> bits;
  const auto wide = hn::PromoteTo(bits, hn::LoadU(halves, values));
  return hn::BitCast(FloatTag(), hn::ShiftLeft<16>(wide));
}

// Sum of squares of one whole block.
template <typename T>
HWY_INLINE double sum_block(const T* values) {
  const DoubleTag d;
  constexpr std::size_t kWidth = hn::MaxLanes(d);
  constexpr std::size_t kParts = kSumLanes / kWidth;
  hn::Vec<DoubleTag> sums[kParts];
  for (auto& sum : sums) {
    sum = hn::Zero(d);
  }
  for (std::size_t i = 0; i < kSumBlock; i += kSumLanes) {
    for (std::size_t part = 0; part < kParts; ++part) {
      const auto value = hn::PromoteTo(d, load(values + i + part * kWidth));
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

template <typename T>
HWY_INLINE double sum_blocks(const T* values, std::size_t count) {
  double total = 0;
  std::size_t i = 0;
  for (; count - i >= kSumBlock; i += kSumBlock) {
    total += sum_block(values + i);
  }
  return total + sum_of_squares_reference(values + i, count - i);
}

double sum_fp32(const float* values, std::size_t count) { return sum_blocks(values, count); }
double sum_bf16(const std::uint16_t* values, std::size_t count) {
  return sum_blocks(values, count);
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace spillway::trainer
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace spillway::trainer {

HWY_EXPORT(sum_fp32);
HWY_EXPORT(sum_bf16);

double sum_of_squares(const float* values, std::size_t count) noexcept {
  return HWY_DYNAMIC_DISPATCH(sum_fp32)(values, count);
}

double sum_of_squares(const std::uint16_t* bf16_values, std::size_t count) noexcept {
  return HWY_DYNAMIC_DISPATCH(sum_bf16)(bf16_values, count);
}

}  // namespace spillway::trainer
#endif
