#include "trainer/kernels/dropout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/trainer/kernels/every_target.h"
#include "tests/trainer/kernels/random_values.h"

namespace spillway::trainer {
namespace {

using testing::for_each_target;

constexpr std::uint64_t kSeed = 20265;
constexpr DropoutSite kSite{.seed = 7, .step = 3, .unit = 2, .site = 1};

std::vector<float> some_values(std::size_t count) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  std::mt19937_64 random(kSeed);
  std::vector<float> values(count);
  for (float& value : values) value = testing::draw(random, testing::Values::kAnything, 1);
  values[count / 2] = std::numeric_limits<float>::quiet_NaN();
  return values;
}

std::vector<std::uint16_t> halves_of(const std::vector<float>& values) {
  std::vector<std::uint16_t> halves;
  for (const float value : values) {
    halves.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16));
  }
  return halves;
}

// Of one sample, as 1 for what is kept.
std::vector<bool> kept(const DropoutSite& site, double p, std::uint64_t sample, std::size_t count) {
  const std::vector<float> ones(count, 1.0f);
  std::vector<float> masked(count);
  dropout(DropoutMask::create(site, p), sample, 0, count, ones.data(), masked.data());
  std::vector<bool> result(count);
  std::transform(masked.begin(), masked.end(), result.begin(),
                 [](float value) { return value != 0; });
  return result;
}

// Random123's known answers for philox4x32-10 (its file kat_vectors).
TEST(Philox, GivesThePublishedNumbers) {
  const struct {
    PhiloxBlock counter;
    PhiloxKey key;
    PhiloxBlock random;
  } published[] = {
      {{{0, 0, 0, 0}}, {{0, 0}}, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
      {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
       {{0xffffffff, 0xffffffff}},
       {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
      {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
       {{0xa4093822, 0x299f31d0}},
       {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
  };
  for (const auto& answer : published) {
    const PhiloxBlock random = philox(answer.counter, answer.key);
    for (int word = 0; word < 4; ++word) EXPECT_EQ(random.words[word], answer.random.words[word]);
  }
}

TEST(Dropout, CountsElementsAndSamplesIn64Bits) {
  const auto words = [](const PhiloxBlock& block) {
    return std::vector<std::uint32_t>(block.words, block.words + 4);
  };
  using Words = std::vector<std::uint32_t>;
  EXPECT_EQ(words(dropout_counter(5, 0)), (Words{0, 0, 5, 0}));
  EXPECT_EQ(words(dropout_counter(5, 17)), (Words{1, 0, 5, 0}));
  EXPECT_EQ(words(dropout_counter(5, 64)), (Words{16, 0, 5, 0}));
  EXPECT_EQ(dropout_word(0), 0u);
  EXPECT_EQ(dropout_word(17), 1u);
  EXPECT_EQ(dropout_word(63), 3u);
  // Beyond 2^32 elements, and beyond 2^32 counters, and for as many samples.
  constexpr std::uint64_t kElement = (std::uint64_t{1} << 34) + 64 + 33;
  EXPECT_EQ(words(dropout_counter((std::uint64_t{3} << 32) + 9, kElement)), (Words{17, 1, 9, 3}));
  EXPECT_EQ(dropout_word(kElement), 2u);
  for_each_target([&] {
    const DropoutMask mask = DropoutMask::create(kSite, 0.5);
    std::vector<float> values(200, 1.0f), expected(200);
    dropout_reference(mask, std::uint64_t{3} << 32, kElement - 33, 200, values.data(),
                      expected.data());
    dropout(mask, std::uint64_t{3} << 32, kElement - 33, 200, values.data(), values.data());
    EXPECT_EQ(values, expected);
  });
}

// Each pair of elements of two groups, and each pair of neighbouring groups, has a random number of
// its own.
TEST(Dropout, GivesEachElementItsOwnWord) {
  std::vector<std::pair<std::uint32_t, unsigned>> places;
  for (std::uint64_t element = 0; element < 10 * kDropoutGroup; ++element) {
    places.emplace_back(dropout_counter(0, element).words[0], dropout_word(element));
  }
  std::ranges::sort(places);
  EXPECT_EQ(std::ranges::adjacent_find(places), places.end());
  EXPECT_EQ(places.back(), std::pair(10 * 16 - 1u, 3u));  // and none is left out
}

TEST(Dropout, HasTheBitsOfTheReferenceOnEveryTarget) {
  const std::vector<float> values = some_values(1000);
  const std::vector<std::uint16_t> halves = halves_of(values);
  const auto bits = [](const std::vector<float>& floats) {
    std::vector<std::uint32_t> result;
    for (const float value : floats) result.push_back(std::bit_cast<std::uint32_t>(value));
    return result;
  };
  for (const double p : {0.0, 1e-12, 1e-3, 0.1, 0.5, 0.999, 1.0}) {
    const DropoutMask mask = DropoutMask::create(kSite, p);
    for_each_target([&] {
      for (const std::size_t first : {0, 1, 15, 63, 64, 130}) {
        for (const std::size_t count : {0, 1, 63, 64, 65, 127, 128, 700}) {
          SCOPED_TRACE(::testing::Message() << "p " << p << ", " << count << " from " << first);
          std::vector<float> expected(values.size(), -3), actual = expected;
          dropout_reference(mask, 11, first, count, values.data(), expected.data());
          dropout(mask, 11, first, count, values.data(), actual.data());
          ASSERT_EQ(bits(actual), bits(expected));
          std::vector<std::uint16_t> expected_halves(values.size(), 77), in_place = halves;
          dropout_reference(mask, 11, first, count, halves.data(), expected_halves.data());
          dropout(mask, 11, first, count, in_place.data(), in_place.data());
          std::ranges::copy(halves.begin() + static_cast<std::ptrdiff_t>(count), halves.end(),
                            expected_halves.begin() + static_cast<std::ptrdiff_t>(count));
          ASSERT_EQ(in_place, expected_halves);
        }
      }
    });
  }
}

TEST(Dropout, DoesNotDependOnHowATensorIsSplit) {
  constexpr std::uint64_t kSamples = 3, kElements = 333;
  const std::vector<float> values = some_values(kSamples * kElements);
  const DropoutMask mask = DropoutMask::create(kSite, 0.3);
  std::vector<float> whole(values.size()), pieces(values.size());
  DropoutTensor tensor{.first_sample = 40,
                       .samples = kSamples,
                       .elements = kElements,
                       .from = values.data(),
                       .to = whole.data()};
  dropout(mask, tensor, 0, values.size());
  tensor.to = pieces.data();
  for (std::uint64_t begin = 0; begin < values.size(); begin += 100) {
    dropout(mask, tensor, begin, std::min<std::uint64_t>(begin + 100, values.size()));
  }
  const auto same = [](float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); };
  EXPECT_TRUE(std::ranges::equal(whole, pieces, same));
  // Sample 41 alone is what it was among the others: so are other chunks and ranks.
  std::vector<float> alone(kElements);
  dropout(mask, 41, 0, kElements, values.data() + kElements, alone.data());
  EXPECT_TRUE(std::equal(alone.begin(), alone.end(), whole.begin() + kElements, same));
  dropout(mask, DropoutTensor{}, 0, 0);  // nothing of nothing
}

TEST(Dropout, KeepsScalesAndDropsAsItsProbabilitySays) {
  constexpr std::size_t kCount = std::size_t{1} << 20;
  const std::vector<float> values(kCount, 3.0f);
  std::vector<float> masked(kCount);
  for (const double p : {0.0, 1e-12, 1e-4, 0.1, 0.5, 0.9, 1.0}) {
    dropout(DropoutMask::create(kSite, p), 0, 0, kCount, values.data(), masked.data());
    const auto dropped = std::ranges::count(masked, 0.0f);
    const double deviation = std::sqrt(p * (1 - p) * kCount);
    EXPECT_NEAR(static_cast<double>(dropped), p * kCount, 5 * deviation) << p;
    const auto scaled = std::ranges::count(masked, 3.0f * static_cast<float>(1 / (1 - p)));
    EXPECT_EQ(static_cast<std::size_t>(dropped + (p < 1 ? scaled : 0)), kCount) << p;
  }
}

TEST(DropoutDeath, RefusesWhatIsNoProbability) {
  EXPECT_DEATH(DropoutMask::create(kSite, -0.1), "between 0 and 1");
  EXPECT_DEATH(DropoutMask::create(kSite, 1.5), "between 0 and 1");
  EXPECT_DEATH(DropoutMask::create(kSite, std::nan("")), "between 0 and 1");
}

// Chi-square of the table "this one kept or not, that one kept or not", one degree of freedom: 30
// is passed by chance once in 2e7.
double dependence(const std::vector<bool>& a, const std::vector<bool>& b, std::size_t shift = 0) {
  double table[2][2] = {};
  const std::size_t pairs = a.size() - shift;
  for (std::size_t i = 0; i < pairs; ++i) ++table[a[i]][b[i + shift]];
  double chi_square = 0;
  for (int row = 0; row < 2; ++row) {
    for (int column = 0; column < 2; ++column) {
      const double expected = (table[row][0] + table[row][1]) *
                              (table[0][column] + table[1][column]) / static_cast<double>(pairs);
      const double excess = table[row][column] - expected;
      chi_square += excess * excess / expected;
    }
  }
  return chi_square;
}

TEST(Dropout, IsIndependentOfItsNeighbours) {
  constexpr std::size_t kCount = std::size_t{1} << 18;
  constexpr double kBound = 30;
  for (const double p : {0.1, 0.5}) {
    const std::vector<bool> mask = kept(kSite, p, 4, kCount);
    for (const std::size_t shift : {1, 2, 15, 16, 17, 32, 48, 63, 64, 128, 1024}) {
      EXPECT_LT(dependence(mask, mask, shift), kBound) << "elements " << shift << " apart";
    }
    DropoutSite other = kSite;
    EXPECT_LT(dependence(mask, kept(kSite, p, 5, kCount)), kBound) << "the next sample";
    other.step = kSite.step + 1;
    EXPECT_LT(dependence(mask, kept(other, p, 4, kCount)), kBound) << "the next step";
    other = kSite;
    other.unit = kSite.unit + 1;
    EXPECT_LT(dependence(mask, kept(other, p, 4, kCount)), kBound) << "the next unit";
    other = kSite;
    other.site = kSite.site + 1;
    EXPECT_LT(dependence(mask, kept(other, p, 4, kCount)), kBound) << "the next site";
    other = kSite;
    other.seed = kSite.seed + 1;
    EXPECT_LT(dependence(mask, kept(other, p, 4, kCount)), kBound) << "the next seed";
    std::swap(other.unit, other.site);
    EXPECT_LT(dependence(kept(other, p, 4, kCount), kept(kSite, p, 4, kCount)), kBound);
    EXPECT_GT(dependence(mask, mask), 1000) << "the same one";
  }
}

// Groups of four neighbours show all sixteen patterns as often as chance does: 15 degrees of
// freedom, 60 is passed once in 4e6.
TEST(Dropout, ShowsAllPatternsEquallyOften) {
  constexpr std::size_t kCount = std::size_t{1} << 20;
  const std::vector<bool> mask = kept(kSite, 0.5, 0, kCount);
  double counts[16] = {};
  for (std::size_t i = 0; i < kCount; i += 4) {
    ++counts[mask[i] + 2 * mask[i + 1] + 4 * mask[i + 2] + 8 * mask[i + 3]];
  }
  double chi_square = 0;
  for (const double count : counts) {
    const double expected = kCount / 64.0;
    chi_square += (count - expected) * (count - expected) / expected;
  }
  EXPECT_LT(chi_square, 60);
}

}  // namespace
}  // namespace spillway::trainer
