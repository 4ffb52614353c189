#include "trainer/kernels/sum_of_squares.h"

#include <gtest/gtest.h>

#include <bit>
#include <limits>
#include <random>
#include <vector>

#include "tests/trainer/kernels/every_target.h"

namespace spillway::trainer {
namespace {

using testing::for_each_target;

constexpr std::uint64_t kSeed = 20263;

std::vector<float> random_values(std::size_t count) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  std::mt19937_64 random(kSeed);
  std::vector<float> values(count);
  for (float& value : values) value = std::normal_distribution<float>(0, 0.1f)(random);
  return values;
}

std::vector<std::uint16_t> halves_of(const std::vector<float>& values) {
  std::vector<std::uint16_t> halves;
  for (const float value : values) {
    halves.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16));
  }
  return halves;
}

TEST(SumOfSquares, HasTheBitsOfTheReferenceOnEveryTarget) {
  const std::vector<float> values = random_values(10 * kSumBlock);
  const std::vector<std::uint16_t> halves = halves_of(values);
  std::vector<std::size_t> counts;
  for (std::size_t count = 0; count <= 70; ++count) counts.push_back(count);
  for (const std::size_t blocks : {1, 2, 3, 4, 5, 9}) {
    counts.insert(counts.end(), {blocks * kSumBlock - 1, blocks * kSumBlock, blocks * kSumBlock + 1,
                                 blocks * kSumBlock + 13});
  }
  for_each_target([&] {
    for (const std::size_t count : counts) {
      ASSERT_EQ(sum_of_squares(values.data(), count),
                sum_of_squares_reference(values.data(), count))
          << "count " << count;
      ASSERT_EQ(sum_of_squares(halves.data(), count),
                sum_of_squares_reference(halves.data(), count))
          << "count " << count;
    }
  });
}

TEST(SumOfSquares, DoesNotDependOnAlignment) {
  const std::vector<float> values = random_values(5 * kSumBlock + 77);
  for_each_target([&values] {
    const double expected = sum_of_squares(values.data(), values.size());
    for (std::size_t shift = 1; shift < 20; ++shift) {
      std::vector<float> moved(shift);
      moved.insert(moved.end(), values.begin(), values.end());
      EXPECT_EQ(sum_of_squares(moved.data() + shift, values.size()), expected);
    }
  });
}

TEST(SumOfSquares, IsTheSumOfTheSquares) {
  const std::vector<float> values(10000, 3.0f);
  EXPECT_EQ(sum_of_squares(values.data(), values.size()), 90000.0);
  EXPECT_EQ(sum_of_squares(halves_of(values).data(), values.size()), 90000.0);
  const float huge = std::numeric_limits<float>::max();
  EXPECT_EQ(sum_of_squares(&huge, 1), static_cast<double>(huge) * huge) << "no overflow";
}

}  // namespace
}  // namespace spillway::trainer
