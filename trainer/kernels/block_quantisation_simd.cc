// encode_blocks and decode_blocks by Google Highway, compiled once per SIMD target of this file and
// chosen at run time. The tables of 8 entries are looked up in registers.
#include "trainer/kernels/quantisation_tables.h"
#include "trainer/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trainer/kernels/block_quantisation_simd.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target to compile for.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace spillway::trainer {
namespace HWY_NAMESPACE {

// A vector of 4 (NEON) cannot hold a table.
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_NEON

void encode(CodeBook book, const float* values, std::size_t count, std::uint8_t* codes,
            float* absmax) {
  encode_blocks_reference(book, values, count, codes, absmax);
}

void decode(CodeBook book, const std::uint8_t* codes, const float* absmax, std::size_t count,
            float* values) {
  decode_blocks_reference(book, codes, absmax, count, values);
}

#else

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using Floats = hn::Vec<FloatTag>;
using Bits32 = hn::RebindToUnsigned<FloatTag>;
using Int32 = hn::RebindToSigned<FloatTag>;
constexpr std::size_t kLanes = hn::MaxLanes(FloatTag());
static_assert(kLanes == 8 || kLanes == 16, "a vector holds a table once or twice");

template <CodeBook kBook>
HWY_INLINE const QuantisationTables& tables() {
  return kBook == CodeBook::kSigned ? kSignedTables : kUnsignedTables;
}

HWY_INLINE Floats look_up(Floats table, hn::Vec<Int32> index) {
  return hn::TableLookupLanes(table, hn::IndicesFromVec(FloatTag(), index));
}

HWY_INLINE Floats largest_magnitude(const float* values) {
  const FloatTag d;
  const Bits32 bits;
  auto largest = hn::Zero(bits);
  for (std::size_t i = 0; i < kQuantisedBlock; i += kLanes) {
    const auto magnitude = hn::BitCast(bits, hn::Abs(hn::LoadU(d, values + i)));
    largest = hn::Max(largest, magnitude);
  }
  return hn::BitCast(d, hn::MaxOfLanes(bits, largest));
}

// How many of threshold[1 .. 7] the magnitude reaches. The bits of a float, as a number, are its
// binary logarithm to 0.09, and the threshold of decade k lies 0.15 to 0.8 above 10^(k - 7) in
// decimal logarithm + 0.5: truncated, they give the decade or the one below. Of the bits the upper
// 16 will do, in fixed point with 20 bits behind it. `next`: of each decade the threshold of the
// next.
HWY_INLINE hn::Vec<Int32> decade_of(Floats magnitude, Floats next) {
  const FloatTag d;
  const Int32 ints;
  constexpr double kDecimal = 0.30102999566398120 * (1 << 20);  // log10(2)
  constexpr auto kSlope = static_cast<std::int32_t>(kDecimal / 128 + 0.5);
  constexpr auto kOffset = static_cast<std::int32_t>(127 * kDecimal - 6.5 * (1 << 20));
  // 10^-6.5 and below: the lowest decade.
  const auto upper = hn::ShiftRight<16>(hn::BitCast(ints, magnitude));
  const auto about = hn::Sub(hn::Mul(upper, hn::Set(ints, kSlope)), hn::Set(ints, kOffset));
  const auto low = hn::ShiftRight<20>(hn::Max(about, hn::Zero(ints)));
  const auto reached = hn::RebindMask(ints, hn::Ge(magnitude, look_up(next, low)));
  return hn::IfThenElse(reached, hn::Add(low, hn::Set(ints, 1)), low);
}

// The codes of one vector, in the lowest byte of each lane. All whole numbers of floats until they
// are added to 1.5 x 2^23, whose lowest bits they then are: conversions check for overflow.
template <CodeBook kBook>
HWY_INLINE hn::Vec<Bits32> codes_of(Floats value, Floats inverse, Floats next, Floats scale,
                                    Floats bias, Floats last) {
  const FloatTag d;
  const Bits32 bits;
  const auto magnitude = hn::Mul(hn::Abs(value), inverse);
  const auto decade = decade_of(magnitude, next);
  const auto linear = hn::MulAdd(magnitude, look_up(scale, decade), look_up(bias, decade));
  auto code = hn::Floor(hn::Min(linear, look_up(last, decade)));
  if constexpr (kBook == CodeBook::kUnsigned) {
    const auto least = hn::IfThenElseZero(hn::Gt(value, hn::Zero(d)), hn::Set(d, 1.0f));
    code = hn::Max(code, least);
  } else {
    // code where the sign bit is set, but no more than 127; else -code.
    const auto minus = hn::AndNot(value, hn::BitCast(d, hn::Set(bits, 0x80000000)));
    code = hn::Min(hn::Xor(code, minus), hn::Set(d, 127.0f));
  }
  return hn::BitCast(bits, hn::Add(code, hn::Set(d, 0x1.8p23f)));
}

template <CodeBook kBook>
HWY_INLINE void encode_block(const float* values, std::uint8_t* codes, float* absmax) {
  const FloatTag d;
  const float largest = hn::GetLane(largest_magnitude(values));
  constexpr float kSmallestNormal = 0x1p-126f;
  if (!(largest >= kSmallestNormal && largest <= 0x1.fffffep127f)) {
    encode_blocks_reference(kBook, values, kQuantisedBlock, codes, absmax);
    return;
  }
  *absmax = largest;
  const QuantisationTables& t = tables<kBook>();
  const auto inverse = hn::Set(d, 1.0f / largest);
  const auto next = hn::LoadU(d, t.next);
  const auto scale = hn::LoadU(d, t.scale), bias = hn::LoadU(d, t.bias),
             last = hn::LoadU(d, t.last);
  const hn::Repartition<std::uint16_t, FloatTag> halves;
  const hn::Repartition<std::uint8_t, FloatTag> bytes;
  const auto codes_at = [&](std::size_t i) HWY_ATTR {
    return hn::BitCast(halves,
                       codes_of<kBook>(hn::LoadU(d, values + i), inverse, next, scale, bias, last));
  };
  for (std::size_t i = 0; i < kQuantisedBlock; i += 4 * kLanes) {
    const auto lower = hn::ConcatEven(halves, codes_at(i + kLanes), codes_at(i));
    const auto upper = hn::ConcatEven(halves, codes_at(i + 3 * kLanes), codes_at(i + 2 * kLanes));
    const auto four = hn::ConcatEven(bytes, hn::BitCast(bytes, upper), hn::BitCast(bytes, lower));
    hn::StoreU(four, bytes, codes + i);
  }
}

template <CodeBook kBook>
HWY_INLINE void decode_block(const std::uint8_t* codes, float absmax, float* values) {
  const FloatTag d;
  const Int32 ints;
  const QuantisationTables& t = tables<kBook>();
  const auto slope = hn::LoadU(d, t.slope), offset = hn::LoadU(d, t.offset);
  const auto one = hn::Set(d, 1.0f), largest = hn::Set(d, absmax);
  for (std::size_t i = 0; i < kQuantisedBlock; i += kLanes) {
    Floats size, sign;  // x of the tables, and what has the value's sign
    if constexpr (kBook == CodeBook::kUnsigned) {
      const hn::Rebind<std::uint8_t, FloatTag> bytes;
      const auto code = hn::PromoteTo(ints, hn::LoadU(bytes, codes + i));
      size = hn::Add(hn::ConvertTo(d, code), one);
      sign = hn::Zero(d);
    } else {
      const hn::Rebind<std::int8_t, FloatTag> bytes;
      const auto negated =
          hn::PromoteTo(ints, hn::LoadU(bytes, reinterpret_cast<const std::int8_t*>(codes + i)));
      size = hn::ConvertTo(d, hn::Abs(negated));
      sign = hn::BitCast(d, hn::Neg(negated));
    }
    const auto power = hn::Sub(hn::ShiftRight<23>(hn::BitCast(ints, size)), hn::Set(ints, 127));
    const auto exponent = hn::Min(hn::Max(power, hn::Zero(ints)), hn::Set(ints, 7));
    const auto linear = hn::MulAdd(size, look_up(slope, exponent), look_up(offset, exponent));
    const auto magnitude = hn::Min(linear, one);
    hn::StoreU(hn::Mul(hn::CopySignToAbs(magnitude, sign), largest), d, values + i);
  }
}

// What is left over after whole blocks is for the reference, which has the same bits.
template <CodeBook kBook>
void encode_book(const float* values, std::size_t count, std::uint8_t* codes, float* absmax) {
  std::size_t i = 0;
  for (; count - i >= kQuantisedBlock; i += kQuantisedBlock) {
    encode_block<kBook>(values + i, codes + i, absmax + i / kQuantisedBlock);
  }
  encode_blocks_reference(kBook, values + i, count - i, codes + i, absmax + i / kQuantisedBlock);
}

template <CodeBook kBook>
void decode_book(const std::uint8_t* codes, const float* absmax, std::size_t count, float* values) {
  std::size_t i = 0;
  for (; count - i >= kQuantisedBlock; i += kQuantisedBlock) {
    decode_block<kBook>(codes + i, absmax[i / kQuantisedBlock], values + i);
  }
  decode_blocks_reference(kBook, codes + i, absmax + i / kQuantisedBlock, count - i, values + i);
}

void encode(CodeBook book, const float* values, std::size_t count, std::uint8_t* codes,
            float* absmax) {
  if (book == CodeBook::kSigned)
    return encode_book<CodeBook::kSigned>(values, count, codes, absmax);
  encode_book<CodeBook::kUnsigned>(values, count, codes, absmax);
}

void decode(CodeBook book, const std::uint8_t* codes, const float* absmax, std::size_t count,
            float* values) {
  if (book == CodeBook::kSigned)
    return decode_book<CodeBook::kSigned>(codes, absmax, count, values);
  decode_book<CodeBook::kUnsigned>(codes, absmax, count, values);
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace spillway::trainer
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace spillway::trainer {

HWY_EXPORT(encode);
HWY_EXPORT(decode);

void encode_blocks(CodeBook book, const float* values, std::size_t count, std::uint8_t* codes,
                   float* absmax) noexcept {
  HWY_DYNAMIC_DISPATCH(encode)(book, values, count, codes, absmax);
}

void decode_blocks(CodeBook book, const std::uint8_t* codes, const float* absmax, std::size_t count,
                   float* values) noexcept {
  HWY_DYNAMIC_DISPATCH(decode)(book, codes, absmax, count, values);
}

}  // namespace spillway::trainer
#endif
