// The split of a master weight, for all 2^32 floats.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "trainer/kernels/hi_lo.h"
#include "trainer/kernels/update.h"

namespace spillway::trainer {
namespace {

constexpr std::uint64_t kPatterns = std::uint64_t{1} << 32;

// The value of a bf16, with infinity standing for 2^128, the next number were there one.
double value_of_bf16(std::uint32_t bits) {
  const float value = std::bit_cast<float>(bits << 16);
  return std::isinf(value) ? std::copysign(0x1p128, value) : value;
}

TEST(HiLoExhaustive, EveryFloatComesBackAndHiIsTheNearestBf16) {
  std::uint64_t wrong_join = 0;
  std::uint64_t wrong_hi = 0;
  for (std::uint64_t pattern = 0; pattern < kPatterns; ++pattern) {
    const auto bits = static_cast<std::uint32_t>(pattern);
    const float master = std::bit_cast<float>(bits);
    const HiLo halves = hi_lo_split(master);
    const float joined = hi_lo_join(halves);
    if (std::isnan(master)) {
      wrong_join += !std::isnan(joined);
      wrong_hi += halves.hi != 0x7fc0;
      continue;
    }
    wrong_join += std::bit_cast<std::uint32_t>(joined) != bits;
    const std::uint32_t below = bits >> 16;  // towards zero
    std::uint32_t nearest = below;
    if ((bits & 0xffff) != 0) {
      const double to_below = std::abs(double{master} - value_of_bf16(below));
      const double to_above = std::abs(value_of_bf16(below + 1) - double{master});
      nearest = to_above <= to_below ? below + 1 : below;
    }
    wrong_hi += halves.hi != nearest;
  }
  EXPECT_EQ(wrong_join, 0u);
  EXPECT_EQ(wrong_hi, 0u);
}

// An update with learning rate and gradient 0 is the identity: every master through the vectors.
TEST(HiLoExhaustive, TheKernelLoadsAndStoresEveryMaster) {
  constexpr std::size_t kBatch = std::size_t{1} << 16;
  const UpdateConstants still =
      UpdateConstants::at_step({.learning_rate = 0, .weight_decay = 0}, 1, 1.0f);
  std::vector<float> exp_avg(kBatch), exp_avg_sq(kBatch);
  const std::vector<float> grad(kBatch);
  std::vector<std::uint16_t> hi(kBatch), lo(kBatch), expected_hi(kBatch), expected_lo(kBatch);
  for (std::uint64_t first = 0; first < kPatterns; first += kBatch) {
    for (std::size_t i = 0; i < kBatch; ++i) {
      const auto bits = static_cast<std::uint32_t>(first + i);
      const HiLo halves = hi_lo_split(std::bit_cast<float>(bits));
      // As any writer may split it: a NaN with its payload, too, is to come back as the one NaN.
      hi[i] = static_cast<std::uint16_t>((bits + 0x8000u) >> 16);
      lo[i] = static_cast<std::uint16_t>(bits);
      expected_hi[i] = halves.hi;
      expected_lo[i] = halves.lo;
    }
    const UpdatePlanes planes{.format = {.weights = Dtype::kBf16},
                              .weight = hi.data(),
                              .weight_lo = lo.data(),
                              .states = {exp_avg.data(), exp_avg_sq.data()},
                              .gradient = grad.data()};
    update_range(still, planes, 0, kBatch);
    ASSERT_EQ(hi, expected_hi) << "from pattern " << first;
    ASSERT_EQ(lo, expected_lo) << "from pattern " << first;
  }
}

}  // namespace
}  // namespace spillway::trainer
