#include "trainer/kernels/update.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <thread>

#include "tests/trainer/kernels/every_target.h"
#include "tests/trainer/kernels/optimizer_state.h"
#include "tests/trainer/kernels/update_pieces.h"

namespace spillway::trainer {
namespace {

using testing::all_formats;
using testing::for_each_target;
using testing::TileState;
using testing::UpdatePieces;
using testing::Values;

constexpr std::uint64_t kSeed = 20260;

UpdateConstants constants_at(std::uint64_t step, OptimizerKind kind) {
  return UpdateConstants::at_step({.kind = kind, .learning_rate = 3e-4, .weight_decay = 0.1}, step,
                                  0.5f);
}

// Every size of a vector's tail, and sizes around a page.
std::vector<std::size_t> sizes() {
  std::vector<std::size_t> result;
  for (std::size_t size = 0; size <= 70; ++size) {
    result.push_back(size);
  }
  for (const std::size_t size : {255, 256, 257, 511, 4093, 4095, 4096, 4097, 4099}) {
    result.push_back(size);
  }
  return result;
}

TEST(SimdTarget, EachThatHasFusedMultiplyAddIsUsed) {
  const std::int64_t supported = hwy::SupportedTargets();
  const std::set<std::string> names = for_each_target([] {});
  EXPECT_TRUE(names.contains("SCALAR")) << "SSE4 and the fallback run the reference";
#if defined(__x86_64__)
  EXPECT_EQ(names.contains("AVX2"), (supported & HWY_AVX2) != 0);
  EXPECT_EQ(names.contains("AVX3"), (supported & HWY_AVX3) != 0);
  EXPECT_FALSE(names.contains("SSE4"));
#endif
}

class EveryFormat : public ::testing::TestWithParam<OptimizerFormat> {
 protected:
  void SetUp() override { std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed)); }
  UpdateConstants at_step(std::uint64_t step) const { return constants_at(step, GetParam().kind); }
  bool in_blocks() const { return GetParam().states == StateDtype::kInt8; }
  TileState tile(std::size_t size, Values values = Values::kTraining) const {
    return TileState(GetParam(), size, values, kSeed + size);
  }
};

TEST_P(EveryFormat, HasTheBitsOfTheReferenceOnEveryTarget) {
  for_each_target([this] {
    for (const Values values : {Values::kTraining, Values::kAnything}) {
      for (const std::size_t size : sizes()) {
        // Three elements more than are updated: they must stay. (A block is updated as a whole.)
        TileState expected = tile(size + (in_blocks() ? 0 : 3), values);
        TileState actual = expected;
        update_range_reference(at_step(7), expected.planes(), 0, size);
        update_range(at_step(7), actual.planes(), 0, size);
        ASSERT_EQ(actual.difference(expected), "") << "size " << size;
      }
    }
  });
}

TEST_P(EveryFormat, AnySplitOfTheTileGivesTheSameBits) {
  for_each_target([this] {
    TileState whole = tile(10007);
    TileState split = whole;
    update_range(at_step(3), whole.planes(), 0, whole.size());
    std::mt19937_64 random(kSeed);
    for (std::uint64_t first = 0; first < split.size();) {
      const std::uint64_t wanted = in_blocks() ? random() % 4 * kQuantisedBlock : random() % 300;
      const std::uint64_t count = std::min<std::uint64_t>(wanted, split.size() - first);
      update_range(at_step(3), split.planes(), first, count);
      first += count;
    }
    EXPECT_EQ(split.difference(whole), "");
  });
}

TEST_P(EveryFormat, AnyNumberOfThreadsGivesTheSameBits) {
  TileState alone = tile(100'003);
  TileState shared = alone;
  update_range(at_step(3), alone.planes(), 0, alone.size());
  std::vector<std::jthread> threads;
  const std::uint64_t part = 256 * 77;
  for (std::uint64_t first = 0; first < shared.size(); first += part) {
    threads.emplace_back([this, first, part, planes = shared.planes(), size = shared.size()] {
      update_range(at_step(3), planes, first, std::min(part, size - first));
    });
  }
  threads.clear();
  EXPECT_EQ(shared.difference(alone), "");
}

// Pieces that begin at any element, some without weight decay, their gradients anywhere: as two
// updates by hand.
TEST_P(EveryFormat, EveryPieceHasItsGradientAndItsConstants) {
  for_each_target([this] {
    TileState decayed = tile(3003);
    TileState plain = decayed;
    TileState actual = decayed;
    update_range_reference(at_step(3), decayed.planes(), 0, 3003);
    update_range_reference(at_step(3).without_weight_decay(), plain.planes(), 0, 3003);
    const UpdatePieces pieces(actual.planes(), 3003, at_step(3), {0, 100, 613, 620, 2620});
    UpdatePlanes planes = actual.planes(pieces.get());
    planes.gradient = nullptr;
    for (std::uint64_t first = 0; first < 3003; first += 256) {
      update_range({}, planes, first, std::min<std::uint64_t>(256, 3003 - first));
    }
    for (std::size_t piece = 0; piece < pieces.get().size(); ++piece) {
      const auto& [offset, elements, gradient, constants] = pieces.get()[piece];
      const TileState& expected = piece % 2 == 0 ? decayed : plain;
      for (std::uint64_t i = offset; i < offset + elements; ++i) {
        ASSERT_EQ(actual.weight(i), expected.weight(i)) << "element " << i;
      }
    }
    EXPECT_NE(decayed.difference(plain), "") << "decay is seen";
  });
}

TEST_P(EveryFormat, MasterOfBf16IsTheWeightOfFp32) {
  OptimizerFormat other = GetParam();
  other.weights = other.weights == Dtype::kFp32 ? Dtype::kBf16 : Dtype::kFp32;
  other.gradients = other.gradients == Dtype::kFp32 ? Dtype::kBf16 : Dtype::kFp32;
  TileState one = tile(1003);
  TileState two(other, 1003, Values::kTraining, kSeed + 1003);
  for (std::uint64_t step = 1; step <= 100; ++step) {
    one.new_gradients(kSeed + step);
    two.new_gradients(kSeed + step);
    update_range(at_step(step), one.planes(), 0, one.size());
    update_range(at_step(step), two.planes(), 0, two.size());
  }
  EXPECT_EQ(two.difference(one), "");
}

// With states in blocks, what is not finite is not lost in a code: with the next update it shows in
// all weights of its block, and in no other.
TEST_P(EveryFormat, WhatIsNotFiniteStaysInItsBlockAndShows) {
  const float infinity = std::numeric_limits<float>::infinity();
  for_each_target([&] {
    for (const float bad : {infinity, -infinity, std::nanf("")}) {
      TileState clean = tile(3 * kQuantisedBlock + 100);
      TileState spoilt = clean;
      const std::size_t at = kQuantisedBlock + 44;
      spoilt.set_gradient(at, bad);
      for (std::uint64_t step = 1; step <= 2; ++step) {
        update_range(at_step(step), clean.planes(), 0, clean.size());
        update_range(at_step(step), spoilt.planes(), 0, spoilt.size());
        clean.new_gradients(kSeed);
        spoilt.new_gradients(kSeed);
      }
      for (std::size_t i = 0; i < clean.size(); ++i) {
        const bool together = in_blocks() ? i / kQuantisedBlock == 1 : i == at;
        // An infinite moment in fp32 makes a step of Lion's size, or of none.
        if (together && (in_blocks() || std::isnan(bad))) {
          ASSERT_TRUE(std::isnan(spoilt.weight(i))) << "element " << i;
        } else if (!together) {
          ASSERT_EQ(spoilt.weight(i), clean.weight(i)) << "element " << i;
        }
      }
    }
  });
}

// The square of a finite gradient may be infinite.
TEST(Int8Moments, ASecondMomentThatOverflowsShows) {
  for_each_target([] {
    TileState tile({.states = StateDtype::kInt8}, 2 * kQuantisedBlock, Values::kTraining, kSeed);
    tile.set_gradient(7, 1e30f);
    update_range(constants_at(1, OptimizerKind::kAdamW), tile.planes(), 0, tile.size());
    EXPECT_TRUE(std::isfinite(tile.weight(7)));
    EXPECT_TRUE(std::isnan(tile.state(1, 7)));
    tile.new_gradients(kSeed);
    update_range(constants_at(2, OptimizerKind::kAdamW), tile.planes(), 0, tile.size());
    EXPECT_TRUE(std::isnan(tile.weight(0)));
    EXPECT_TRUE(std::isfinite(tile.weight(kQuantisedBlock)));
  });
}

class Bf16Moments : public ::testing::Test {
 protected:
  static constexpr OptimizerFormat kFormat{.states = StateDtype::kBf16};
  // exp_avg_sq after so many steps without a gradient.
  static TileState decayed(std::uint64_t seed, std::uint32_t first_element, int steps) {
    TileState tile(kFormat, 4096, Values::kTraining, kSeed);
    UpdatePlanes planes = tile.planes();
    planes.first_element = first_element;
    for (int step = 1; step <= steps; ++step) {
      update_range(UpdateConstants::at_step({.seed = seed}, step, 0.0f), planes, 0, tile.size());
    }
    return tile;
  }
};

// Rounded to nearest, 0.999 of a bf16 would be that bf16 for ever.
TEST_F(Bf16Moments, TheSecondFallsByBeta2OnAverage) {
  const TileState before = decayed(1, 0, 0);
  const TileState after = decayed(1, 0, 1000);
  double sum_before = 0, sum_after = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    sum_before += before.state(1, i);
    sum_after += after.state(1, i);
  }
  // Each of 4096 values wanders by some 5%, their mean by 0.1%.
  EXPECT_NEAR(sum_after / sum_before, std::pow(0.999, 1000), 0.01 * std::pow(0.999, 1000));
}

TEST_F(Bf16Moments, TheirRoundingDependsOnSeedAndElement) {
  const TileState one = decayed(1, 0, 3);
  EXPECT_EQ(decayed(1, 0, 3).difference(one), "");
  EXPECT_NE(decayed(2, 0, 3).difference(one), "");
  EXPECT_NE(decayed(1, 4096, 3).difference(one), "");
}

INSTANTIATE_TEST_SUITE_P(Formats, EveryFormat, ::testing::ValuesIn(all_formats()),
                         [](const auto& format) { return testing::name_of(format.param); });

}  // namespace
}  // namespace spillway::trainer
