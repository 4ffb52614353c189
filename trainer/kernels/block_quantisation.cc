#include "trainer/kernels/block_quantisation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "trainer/kernels/quantisation_tables.h"

namespace spillway::trainer {
namespace {

constexpr std::uint32_t kMagnitudeMask = 0x7fffffff;
constexpr std::uint32_t kInfinity = 0x7f800000;
constexpr std::uint32_t kSmallestNormal = 0x00800000;

const QuantisationTables& tables_of(CodeBook book) {
  return book == CodeBook::kSigned ? kSignedTables : kUnsignedTables;
}

// Of x >= 1 the floor of its binary logarithm, clamped to 0 .. 7.
int exponent_of(float x) {
  const int exponent = static_cast<int>(std::bit_cast<std::uint32_t>(x) >> 23) - 127;
  return std::clamp(exponent, 0, 7);
}

float magnitude_of(const QuantisationTables& t, float x) {
  const int e = exponent_of(x);
  return std::min(std::fma(x, t.slope[e], t.offset[e]), 1.0f);
}

std::int32_t code_of(const QuantisationTables& t, float magnitude) {
  int d = 0;
  for (int k = 1; k < 8; ++k) d += magnitude >= t.threshold[k] ? 1 : 0;
  return static_cast<std::int32_t>(std::min(std::fma(magnitude, t.scale[d], t.bias[d]), t.last[d]));
}

// The largest magnitude; NaN when one is not finite, 0 when all are zero or denormal. As bits: a
// maximum of integers knows no order of NaN.
float absmax_of(const float* values, std::size_t count) {
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::bit_cast<std::uint32_t>(values[i]) & kMagnitudeMask);
  }
  if (largest >= kInfinity) return std::numeric_limits<float>::quiet_NaN();
  return largest < kSmallestNormal ? 0.0f : std::bit_cast<float>(largest);
}

std::uint8_t encode(CodeBook book, float value, float inverse) {
  const QuantisationTables& t = tables_of(book);
  const std::int32_t code = code_of(t, std::abs(value) * inverse);
  if (book == CodeBook::kUnsigned) {
    return static_cast<std::uint8_t>(std::max(code, value > 0 ? 1 : 0));
  }
  // Negated, for a byte holds -128 but not 128: 1 is -128, and -1 has no code.
  return static_cast<std::uint8_t>(std::signbit(value) ? std::min(code, 127) : -code);
}

}  // namespace

float code_value(CodeBook book, std::uint8_t code) noexcept {
  const QuantisationTables& t = tables_of(book);
  if (book == CodeBook::kUnsigned) return magnitude_of(t, static_cast<float>(code) + 1.0f);
  const int negated = static_cast<std::int8_t>(code);
  const float magnitude = magnitude_of(t, static_cast<float>(std::abs(negated)));
  return negated > 0 ? -magnitude : magnitude;
}

void encode_blocks_reference(CodeBook book, const float* values, std::size_t count,
                             std::uint8_t* codes, float* absmax) noexcept {
  for (std::size_t first = 0; first < count; first += kQuantisedBlock) {
    const std::size_t size = std::min(kQuantisedBlock, count - first);
    const float largest = absmax_of(values + first, size);
    absmax[first / kQuantisedBlock] = largest;
    const bool usable = largest > 0;
    for (std::size_t i = first; i < first + size; ++i) {
      codes[i] = usable ? encode(book, values[i], 1.0f / largest) : 0;
    }
  }
}

void decode_blocks_reference(CodeBook book, const std::uint8_t* codes, const float* absmax,
                             std::size_t count, float* values) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = code_value(book, codes[i]) * absmax[i / kQuantisedBlock];
  }
}

}  // namespace spillway::trainer
