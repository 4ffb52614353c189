#include "trainer/kernels/hi_lo.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>

namespace spillway::trainer {
namespace {

TEST(HiLo, SplitsAsTheHeaderSays) {
  const auto expect = [](std::uint32_t bits, std::uint16_t hi, std::uint16_t lo) {
    const HiLo halves = hi_lo_split(std::bit_cast<float>(bits));
    EXPECT_EQ(halves.hi, hi) << std::hex << bits;
    EXPECT_EQ(halves.lo, lo) << std::hex << bits;
  };
  expect(0x3f800000, 0x3f80, 0x0000);  // 1
  expect(0x3f807fff, 0x3f80, 0x7fff);  // below the tie
  expect(0x3f808000, 0x3f81, 0x8000);  // the tie goes up in magnitude
  expect(0xbf808000, 0xbf81, 0x8000);
  expect(0x3f818000, 0x3f82, 0x8000);  // no matter whether hi is even
  expect(0x80000000, 0x8000, 0x0000);  // -0
  expect(0x00000001, 0x0000, 0x0001);  // smallest denormal
  expect(0x7f7fffff, 0x7f80, 0xffff);  // largest finite: hi is infinity
  expect(0xff7fffff, 0xff80, 0xffff);
  expect(0x7f800000, 0x7f80, 0x0000);  // infinities
  expect(0xff800000, 0xff80, 0x0000);
  for (const std::uint32_t nan : {0x7f800001u, 0x7fffffffu, 0xffc00000u, 0xffffffffu}) {
    expect(nan, 0x7fc0, 0x0000);
  }
}

}  // namespace
}  // namespace spillway::trainer
