#include "spillway/trainer/adam.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <set>

#include "adam_state.h"

namespace spillway::trainer {
namespace {

using testing::AdamState;
using testing::difference;
using testing::Values;

constexpr std::uint64_t kSeed = 20260;

AdamConstants constants_at(std::uint64_t step) {
  return AdamConstants::at_step({.learning_rate = 3e-4, .weight_decay = 0.1}, step, 0.5f);
}

// Every size of a vector's tail, and sizes around a page.
std::vector<std::size_t> sizes() {
  std::vector<std::size_t> result;
  for (std::size_t size = 0; size <= 70; ++size) {
    result.push_back(size);
  }
  for (std::size_t size = 4093; size <= 4099; ++size) {
    result.push_back(size);
  }
  return result;
}

// Highway's targets on this CPU, one at a time; restores the choice afterwards.
class EveryTarget : public ::testing::Test {
 protected:
  void SetUp() override { std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed)); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }

  template <typename Body>
  std::set<std::string> for_each_target(Body body) {
    hwy::SetSupportedTargetsForTest(0);
    const std::int64_t supported = hwy::SupportedTargets();
    std::set<std::string> names;
    for (std::int64_t rest = supported; rest != 0; rest &= rest - 1) {
      const std::int64_t target = rest & -rest;
      hwy::SetSupportedTargetsForTest(target);
      SCOPED_TRACE(adam_simd_target());
      names.insert(adam_simd_target());
      body();
    }
    return names;
  }
};

TEST_F(EveryTarget, RunsEachTargetThatHasFusedMultiplyAdd) {
  const std::int64_t supported = hwy::SupportedTargets();
  const std::set<std::string> names = for_each_target([] {});
  EXPECT_TRUE(names.contains("SCALAR")) << "SSE4 and the fallback run the reference";
#if defined(__x86_64__)
  EXPECT_EQ(names.contains("AVX2"), (supported & HWY_AVX2) != 0);
  EXPECT_EQ(names.contains("AVX3"), (supported & HWY_AVX3) != 0);
  EXPECT_FALSE(names.contains("SSE4"));
#endif
}

TEST_F(EveryTarget, Fp32HasTheBitsOfTheReference) {
  for_each_target([] {
    for (const Values values : {Values::kTraining, Values::kAnything}) {
      for (const std::size_t size : sizes()) {
        // Three elements more than are updated: they must stay.
        AdamState expected(size + 3, values, kSeed + size);
        AdamState actual = expected;
        adam_reference(constants_at(7), expected.fp32(), size);
        adam_update(constants_at(7), actual.fp32(), size);
        ASSERT_EQ(difference(actual, expected), "") << "size " << size;
      }
    }
  });
}

TEST_F(EveryTarget, Bf16HasTheBitsOfTheReference) {
  for_each_target([] {
    for (const Values values : {Values::kTraining, Values::kAnything}) {
      for (const std::size_t size : sizes()) {
        AdamState expected(size + 3, values, kSeed + size);
        AdamState actual = expected;
        adam_reference(constants_at(7), expected.bf16(), size);
        adam_update(constants_at(7), actual.bf16(), size);
        ASSERT_EQ(difference(actual, expected), "") << "size " << size;
      }
    }
  });
}

TEST_F(EveryTarget, MasterOfBf16IsTheParameterOfFp32) {
  for_each_target([] {
    AdamState wide(1003, Values::kTraining, kSeed);
    AdamState halves = wide;
    for (std::uint64_t step = 1; step <= 100; ++step) {
      wide.new_gradients(kSeed + step);
      halves.new_gradients(kSeed + step);
      adam_update(constants_at(step), wide.fp32(), wide.param.size());
      adam_update(constants_at(step), halves.bf16(), halves.param.size());
    }
    for (std::size_t i = 0; i < halves.param.size(); ++i) {
      halves.param[i] = hi_lo_join({halves.hi[i], halves.lo[i]});
    }
    EXPECT_EQ(difference(halves.param, wide.param), "");
    EXPECT_EQ(difference(halves.exp_avg, wide.exp_avg), "");
  });
}

TEST_F(EveryTarget, TilesOfAnySizeGiveTheSameBits) {
  for_each_target([] {
    AdamState whole(10007, Values::kTraining, kSeed);
    AdamState tiled = whole;
    adam_update(constants_at(3), whole.bf16(), whole.param.size());
    adam_update(constants_at(3), whole.fp32(), whole.param.size());
    std::mt19937_64 random(kSeed);
    for (std::size_t first = 0; first < tiled.param.size();) {
      const std::size_t size = std::min<std::size_t>(random() % 300, tiled.param.size() - first);
      adam_update(constants_at(3), tiled.bf16(first), size);
      adam_update(constants_at(3), tiled.fp32(first), size);
      first += size;
    }
    EXPECT_EQ(difference(tiled, whole), "");
  });
}

TEST_F(EveryTarget, SumOfSquaresHasTheBitsOfTheReference) {
  std::vector<std::size_t> counts = sizes();
  for (const std::size_t blocks : {2, 3, 4, 5, 9}) {
    counts.insert(counts.end(), {blocks * kSumBlock - 1, blocks * kSumBlock, blocks * kSumBlock + 1,
                                 blocks * kSumBlock + 13});
  }
  for_each_target([&counts] {
    for (const std::size_t count : counts) {
      const AdamState state(count, Values::kTraining, kSeed + count);
      ASSERT_EQ(sum_of_squares(state.param.data(), count),
                sum_of_squares_reference(state.param.data(), count))
          << "count " << count;
    }
  });
}

TEST_F(EveryTarget, SumOfSquaresDoesNotDependOnAlignment) {
  for_each_target([] {
    const AdamState state(5 * kSumBlock + 77, Values::kTraining, kSeed);
    const double expected = sum_of_squares(state.param.data(), state.param.size());
    for (std::size_t shift = 1; shift < 20; ++shift) {
      std::vector<float> moved(shift);
      moved.insert(moved.end(), state.param.begin(), state.param.end());
      EXPECT_EQ(sum_of_squares(moved.data() + shift, state.param.size()), expected);
    }
  });
}

TEST(SumOfSquares, IsTheSumOfTheSquares) {
  const std::vector<float> values(10000, 3.0f);
  EXPECT_EQ(sum_of_squares(values.data(), values.size()), 90000.0);
  const float huge = std::numeric_limits<float>::max();
  EXPECT_EQ(sum_of_squares(&huge, 1), static_cast<double>(huge) * huge) << "no overflow";
}

TEST(AdamConstants, AreCorrectedFromTheStepNumber) {
  const AdamOptions options{
      .learning_rate = 0.5, .beta1 = 0.75, .beta2 = 0.9375, .epsilon = 0.125, .weight_decay = 0.25};
  const AdamConstants first = AdamConstants::at_step(options, 1, 2.0f);
  EXPECT_EQ(first.one_minus_beta1, 0.25f);
  EXPECT_EQ(first.one_minus_beta2, 0.0625f);
  EXPECT_EQ(first.inv_sqrt_bias2, 4.0f);  // 1 / sqrt(1 - 15/16)
  EXPECT_EQ(first.step_size, 2.0f);       // 0.5 / (1 - 0.75)
  EXPECT_EQ(first.decay, 0.875f);
  EXPECT_EQ(first.epsilon, 0.125f);
  EXPECT_EQ(first.grad_scale, 2.0f);
  EXPECT_EQ(AdamConstants::at_step(options, 2, 2.0f).step_size, 0.5f / 0.4375f);
  EXPECT_DEATH(AdamConstants::at_step(options, 0, 1.0f), "from 1");
}

// AdamW of the paper in double, from gradients of float.
TEST(AdamReference, AgreesWithDoublePrecision) {
  const AdamOptions options{.learning_rate = 3e-4, .weight_decay = 0.1};
  AdamState state(1000, Values::kTraining, kSeed);
  std::ranges::fill(state.exp_avg, 0.0f);
  std::ranges::fill(state.exp_avg_sq, 0.0f);
  std::vector<double> param(state.param.begin(), state.param.end());
  std::vector<double> m(param.size()), v(param.size());
  for (int step = 1; step <= 100; ++step) {
    state.new_gradients(kSeed + step);
    adam_reference(AdamConstants::at_step(options, step, 0.5f), state.fp32(), param.size());
    const double bias1 = 1 - std::pow(options.beta1, step);
    const double bias2 = 1 - std::pow(options.beta2, step);
    for (std::size_t i = 0; i < param.size(); ++i) {
      const double g = 0.5 * state.grad[i];
      m[i] = options.beta1 * m[i] + (1 - options.beta1) * g;
      v[i] = options.beta2 * v[i] + (1 - options.beta2) * g * g;
      const double adam = (m[i] / bias1) / (std::sqrt(v[i] / bias2) + options.epsilon);
      param[i] -= options.learning_rate * (adam + options.weight_decay * param[i]);
    }
  }
  for (std::size_t i = 0; i < param.size(); ++i) {
    // 100 roundings of a number below 0.5 (ulp 2^-25) at most: 100 * 2^-26 = 1.5e-6.
    ASSERT_NEAR(state.param[i], param[i], 1.5e-6) << "element " << i;
    ASSERT_NEAR(state.exp_avg[i], m[i], 1e-6 * (std::abs(m[i]) + 1e-3));
    ASSERT_NEAR(state.exp_avg_sq[i], v[i], 1e-5 * v[i]);
  }
}

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
