#include "trainer/kernels/hi_lo.h"

#include <bit>

namespace spillway::trainer {
namespace {

constexpr std::uint32_t kExponentMask = 0x7f800000;
constexpr std::uint32_t kMagnitudeMask = 0x7fffffff;
constexpr std::uint16_t kCanonicalNanHi = 0x7fc0;

}  // namespace

HiLo hi_lo_split(float master) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(master);
  if ((bits & kMagnitudeMask) > kExponentMask) {
    return {kCanonicalNanHi, 0};
  }
  return {static_cast<std::uint16_t>((bits + 0x8000u) >> 16), static_cast<std::uint16_t>(bits)};
}

float hi_lo_join(HiLo halves) noexcept {
  // 1.00390625 = 0x3f808000 is a tie: hi = 0x3f81 (rounded up), lo = 0x8000 = -32768, and
  // 0x3f810000 - 0x8000 = 0x3f808000.
  const auto lo = static_cast<std::uint32_t>(static_cast<std::int16_t>(halves.lo));
  return std::bit_cast<float>((static_cast<std::uint32_t>(halves.hi) << 16) + lo);
}

}  // namespace spillway::trainer
