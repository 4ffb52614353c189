#include "trainer/base/seed.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <set>

namespace spillway::trainer {
namespace {

TEST(DeriveSeed, EveryArgumentAndItsPlaceCount) {
  std::set<std::uint64_t> seen;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    for (std::uint64_t a = 0; a < 8; ++a) {
      for (std::uint64_t b = 0; b < 8; ++b) {
        for (std::uint64_t c = 0; c < 8; ++c) {
          seen.insert(derive_seed(seed, a, b, c));
        }
      }
    }
  }
  EXPECT_EQ(seen.size(), 4u * 8 * 8 * 8);
}

// The first number of the generator splitmix64 from `state`, as its authors publish it.
std::uint64_t splitmix64(std::uint64_t state) {
  std::uint64_t z = state + 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Another hash would give every seed another run.
TEST(DeriveSeed, IsAChainOfSplitmix64) {
  ASSERT_EQ(splitmix64(1234567), 6457827717110365317u) << "the published example";
  EXPECT_EQ(derive_seed(1, 2, 3, 4), splitmix64(splitmix64(splitmix64(splitmix64(1) ^ 2) ^ 3) ^ 4));
}

TEST(DeriveSeed, OneBitOfInputTurnsHalfTheBitsOfOutput) {
  for (int bit = 0; bit < 64; ++bit) {
    int turned = 0;
    for (std::uint64_t word = 0; word < 100; ++word) {
      const std::uint64_t flipped = word ^ (std::uint64_t{1} << bit);
      turned += std::popcount(derive_seed(1, word) ^ derive_seed(1, flipped));
    }
    EXPECT_NEAR(turned / 100.0, 32, 2.5) << "bit " << bit;
  }
}

}  // namespace
}  // namespace spillway::trainer
