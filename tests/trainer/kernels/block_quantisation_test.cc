#include "trainer/kernels/block_quantisation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/trainer/kernels/every_target.h"
#include "tests/trainer/kernels/random_values.h"

namespace spillway::trainer {
namespace {

using testing::for_each_target;
using testing::Values;

constexpr std::uint64_t kSeed = 20264;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Blocks {
  std::vector<std::uint8_t> codes;
  std::vector<float> absmax;
  bool operator==(const Blocks&) const = default;
};

Blocks encode(CodeBook book, const std::vector<float>& values) {
  Blocks blocks{std::vector<std::uint8_t>(values.size()),
                std::vector<float>((values.size() + kQuantisedBlock - 1) / kQuantisedBlock)};
  encode_blocks(book, values.data(), values.size(), blocks.codes.data(), blocks.absmax.data());
  return blocks;
}

std::vector<float> decode(CodeBook book, const Blocks& blocks) {
  std::vector<float> values(blocks.codes.size());
  decode_blocks(book, blocks.codes.data(), blocks.absmax.data(), values.size(), values.data());
  return values;
}

std::vector<float> random_values(CodeBook book, std::size_t count, Values kind) {
  std::mt19937_64 random(kSeed + count);
  std::vector<float> values(count);
  for (float& value : values) {
    // Over all decades: training's values alone would leave the small codes untested.
    const float scale = std::pow(10.0f, -static_cast<float>(random() % 8));
    value = testing::draw(random, kind, scale);
    if (book == CodeBook::kUnsigned) value = std::abs(value);
  }
  return values;
}

class Quantisation : public ::testing::TestWithParam<CodeBook> {
 protected:
  void SetUp() override { std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed)); }
  bool is_signed() const { return GetParam() == CodeBook::kSigned; }
  // All values of the codes, ascending.
  std::vector<float> values_of_codes() const {
    std::vector<float> values;
    for (int code = 0; code < 256; ++code) {
      values.push_back(code_value(GetParam(), static_cast<std::uint8_t>(code)));
    }
    std::ranges::sort(values);
    return values;
  }
};

// The map as the paper builds it, from decades cut into equal cells.
TEST_P(Quantisation, CodesAreTheDynamicTree) {
  std::vector<double> expected{0, 1};
  for (int decade = 0; decade < 7; ++decade) {
    const int cells = (is_signed() ? 1 : 2) << decade;
    for (int cell = 0; cell < cells; ++cell) {
      const double value = (0.1 + 0.9 * (cell + 0.5) / cells) * std::pow(10, decade - 6);
      expected.push_back(value);
      if (is_signed()) expected.push_back(-value);
    }
  }
  std::ranges::sort(expected);
  const std::vector<float> actual = values_of_codes();
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    EXPECT_NEAR(actual[i], expected[i], 1e-6 * std::abs(expected[i])) << "code " << i;
  }
  EXPECT_EQ(code_value(GetParam(), 0), 0.0f);
}

TEST_P(Quantisation, HasTheBitsOfTheReferenceOnEveryTarget) {
  for_each_target([this] {
    for (const Values kind : {Values::kTraining, Values::kAnything}) {
      for (const std::size_t count : {0, 1, 7, 255, 256, 257, 512, 1000, 10'000}) {
        const std::vector<float> values = random_values(GetParam(), count, kind);
        Blocks expected = encode(GetParam(), values);
        const Blocks actual = expected;
        encode_blocks_reference(GetParam(), values.data(), count, expected.codes.data(),
                                expected.absmax.data());
        ASSERT_EQ(actual.codes, expected.codes) << "count " << count;
        std::vector<float> plain(count);
        decode_blocks_reference(GetParam(), expected.codes.data(), expected.absmax.data(), count,
                                plain.data());
        const std::vector<float> decoded = decode(GetParam(), actual);
        for (std::size_t i = 0; i < count; ++i) {
          if (std::isnan(plain[i]) && std::isnan(decoded[i])) continue;
          ASSERT_EQ(std::bit_cast<std::uint32_t>(decoded[i]),
                    std::bit_cast<std::uint32_t>(plain[i]))
              << "element " << i << " of " << count;
        }
      }
    }
  });
}

// No other code would have been nearer; at a border between two, within what fp32 can tell.
TEST_P(Quantisation, TakesTheNearestCode) {
  std::vector<float> values = random_values(GetParam(), 100 * kQuantisedBlock, Values::kTraining);
  for (std::size_t i = 0; i < values.size(); i += kQuantisedBlock) values[i] = 10;
  const std::vector<float> decoded = decode(GetParam(), encode(GetParam(), values));
  std::vector<float> codes = values_of_codes();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto above = std::ranges::lower_bound(codes, values[i] / 10);
    double nearest = std::numeric_limits<double>::infinity();
    for (auto code = above - (above == codes.begin() ? 0 : 1); code <= above; ++code) {
      if (code != codes.end()) nearest = std::min(nearest, std::abs(10.0 * *code - values[i]));
    }
    if (!is_signed() && decoded[i] == 10 * codes[1]) continue;  // instead of zero
    ASSERT_LE(std::abs(decoded[i] - values[i]), nearest + 1e-6 * std::abs(values[i]))
        << values[i] << " became " << decoded[i];
  }
}

TEST_P(Quantisation, ErrorsAreAsTheTableSays) {
  std::vector<float> values = random_values(GetParam(), 1000 * kQuantisedBlock, Values::kTraining);
  for (float& value : values) value = std::clamp(value, -1.0f, 1.0f);
  for (std::size_t i = 0; i < values.size(); i += kQuantisedBlock) values[i] = 1;
  const std::vector<float> decoded = decode(GetParam(), encode(GetParam(), values));
  double worst[4] = {};  // by decade from the top
  for (std::size_t i = 0; i < values.size(); ++i) {
    const int decade = static_cast<int>(std::floor(-std::log10(std::abs(values[i]) * 0.999999)));
    if (decade < 0 || decade > 3) continue;
    const double error = std::abs(decoded[i] / values[i] - 1.0);
    worst[decade] = std::max(worst[decade], error);
  }
  for (int decade = 0; decade < 4; ++decade) {
    const double cells = (is_signed() ? 64 : 128) >> decade;
    const double first_cell = 0.45 / cells / (0.1 + 0.9 / cells);  // at its upper border
    // Half way from the last value of the decade below, 1 - 0.9 / cells tenths, to the first.
    const double between = 5.4 / (2 * cells + 3.6);
    const double bound = std::max(first_cell, between);
    EXPECT_LE(worst[decade], 1.0001 * bound) << "decade " << decade;
    EXPECT_GT(worst[decade], 0.95 * bound) << "decade " << decade << ": the bound is tight";
  }
}

TEST_P(Quantisation, DecodedValuesComeBackAsTheyAre) {
  const std::vector<float> values =
      random_values(GetParam(), 64 * kQuantisedBlock, Values::kTraining);
  std::vector<float> once = decode(GetParam(), encode(GetParam(), values));
  // The largest of a block comes back exactly where it has a code: -1 has none.
  for (std::size_t i = 0; i < once.size(); i += kQuantisedBlock) once[i] = 100;
  const std::vector<float> again = decode(GetParam(), encode(GetParam(), once));
  const std::vector<float> third = decode(GetParam(), encode(GetParam(), again));
  EXPECT_EQ(third, again);
}

TEST_P(Quantisation, ZeroBlocksAreZeroBytes) {
  for_each_target([this] {
    for (const float tiny : {0.0f, 1e-40f}) {
      std::vector<float> values(2 * kQuantisedBlock, tiny);
      values.back() = 3;
      const Blocks blocks = encode(GetParam(), values);
      EXPECT_EQ(blocks.absmax[0], 0.0f);
      EXPECT_EQ(std::ranges::count(blocks.codes, 0),
                2 * kQuantisedBlock - 1 - (is_signed() || tiny == 0 ? 0 : kQuantisedBlock - 1));
      EXPECT_EQ(decode(GetParam(), blocks)[0], 0.0f);
      EXPECT_EQ(decode(GetParam(), blocks).back(), 3.0f);
    }
    const Blocks zeros{std::vector<std::uint8_t>(300), std::vector<float>(2)};
    EXPECT_EQ(decode(GetParam(), zeros), std::vector<float>(300));
  });
}

TEST_P(Quantisation, WhatIsNotFiniteMakesItsBlockNan) {
  for_each_target([this] {
    for (const float bad : {kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
      std::vector<float> values(3 * kQuantisedBlock, 0.5f);
      values[kQuantisedBlock + 17] = bad;
      const std::vector<float> decoded = decode(GetParam(), encode(GetParam(), values));
      for (std::size_t i = 0; i < decoded.size(); ++i) {
        ASSERT_EQ(std::isnan(decoded[i]), i / kQuantisedBlock == 1) << "element " << i;
      }
    }
  });
}

// Any block by itself: tiles may begin and end at any of them.
TEST_P(Quantisation, BlocksDoNotDependOnOneAnother) {
  const std::vector<float> values = random_values(GetParam(), 5000, Values::kTraining);
  const Blocks whole = encode(GetParam(), values);
  for (std::size_t first = 0; first < values.size(); first += kQuantisedBlock) {
    const std::size_t end = std::min(first + kQuantisedBlock, values.size());
    const Blocks one = encode(GetParam(), {values.begin() + first, values.begin() + end});
    EXPECT_EQ(one.absmax[0], whole.absmax[first / kQuantisedBlock]);
    EXPECT_TRUE(std::ranges::equal(one.codes, std::span(whole.codes).subspan(first, end - first)));
  }
}

INSTANTIATE_TEST_SUITE_P(Books, Quantisation,
                         ::testing::Values(CodeBook::kSigned, CodeBook::kUnsigned),
                         [](const auto& book) {
                           return book.param == CodeBook::kSigned ? "Signed" : "Unsigned";
                         });

TEST(UnsignedQuantisation, APositiveValueNeverBecomesZero) {
  for_each_target([] {
    std::vector<float> values(kQuantisedBlock, 0.0f);
    values[0] = 1;
    values[1] = 1e-30f;
    values[2] = 1e-8f;
    const std::vector<float> decoded =
        decode(CodeBook::kUnsigned, encode(CodeBook::kUnsigned, values));
    EXPECT_EQ(decoded[1], code_value(CodeBook::kUnsigned, 1));
    EXPECT_EQ(decoded[2], code_value(CodeBook::kUnsigned, 1));
    EXPECT_EQ(decoded[3], 0.0f);
  });
}

}  // namespace
}  // namespace spillway::trainer
