#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/aio/stripe_map.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>

#include "support/seed.h"

namespace spillway::aio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::uint32_t kStripe = 8192;

StripeMap map_of(std::vector<std::uint32_t> weights, std::uint32_t stripe_bytes = kStripe) {
  auto map = StripeMap::create(stripe_bytes, std::move(weights));
  EXPECT_TRUE(map);
  return *map;
}

// Members of the first stripes, as extent_at tells them stripe by stripe.
std::vector<std::uint32_t> members(const StripeMap& map, std::size_t count) {
  std::vector<std::uint32_t> found;
  for (std::size_t i = 0; i < count; ++i) found.push_back(map.extent_at(i * kStripe, 1).member);
  return found;
}

// These are on disks: a change of them is a new version of the manifest.
TEST(StripeMap, ThePatternsAreThoseOfVersionOne) {
  EXPECT_THAT(members(map_of({1, 1}), 5), ElementsAre(0, 1, 0, 1, 0));
  EXPECT_THAT(members(map_of({1, 3}), 9), ElementsAre(1, 0, 1, 1, 1, 0, 1, 1, 1));
  EXPECT_THAT(members(map_of({5, 1, 1}), 8), ElementsAre(0, 0, 1, 0, 2, 0, 0, 0));
  EXPECT_THAT(members(map_of({2, 0, 1}), 4), ElementsAre(0, 2, 0, 0));
}

// Against the slow way: stripe after stripe to the end of its member's file.
TEST(StripeMap, EveryByteHasAPlaceOfItsOwn) {
  std::mt19937_64 random(test_seed(3));
  for (int round = 0; round < 60; ++round) {
    std::vector<std::uint32_t> weights(1 + random() % 6);
    for (auto& weight : weights) weight = static_cast<std::uint32_t>(random() % 9);
    weights[random() % weights.size()] += 1;
    const StripeMap map = map_of(weights);
    const std::uint64_t size = 1 + random() % (200 * kStripe);
    std::vector<std::uint64_t> ends(weights.size(), 0);
    for (std::uint64_t at = 0; at < size; at += kStripe) {
      const std::uint64_t length = std::min<std::uint64_t>(kStripe, size - at);
      const auto extent = map.extent_at(at, length);
      ASSERT_LT(extent.member, weights.size());
      EXPECT_EQ(extent.offset, ends[extent.member]);
      EXPECT_EQ(extent.size_bytes, length);
      ends[extent.member] += kStripe;
      // From inside the stripe, the rest of it.
      const std::uint64_t inside = random() % length;
      EXPECT_EQ(map.extent_at(at + inside, 1).offset, extent.offset + inside);
      EXPECT_EQ(map.extent_at(at + inside, 1).member, extent.member);
    }
    for (std::size_t m = 0; m < weights.size(); ++m) EXPECT_EQ(map.member_bytes(m, size), ends[m]);
  }
}

TEST(StripeMap, AnExtentRunsOnOverStripesOfOneMember) {
  const StripeMap map = map_of({1, 3});  // 1 0 1 1, 1 0 1 1
  const auto extent = map.extent_at(2 * kStripe + 100, 100 * kStripe);
  EXPECT_EQ(extent.member, 1u);
  EXPECT_EQ(extent.offset, kStripe + 100u);
  EXPECT_EQ(extent.size_bytes, 3 * kStripe - 100u);
  EXPECT_EQ(map_of({4}).extent_at(kStripe + 1, 1 << 30).size_bytes, 1u << 30);
  EXPECT_EQ(map_of({0, 2}).extent_at(kStripe + 1, 1 << 30).offset, kStripe + 1u);
}

TEST(StripeMap, SharesFollowTheSpeeds) {
  using Speeds = std::vector<double>;
  EXPECT_THAT(StripeMap::weights_of(Speeds{7e9}), ElementsAre(1));
  EXPECT_THAT(StripeMap::weights_of(Speeds{200e6, 200e6}), ElementsAre(1, 1));
  EXPECT_THAT(StripeMap::weights_of(Speeds{200e6, 205e6}), ElementsAre(1, 1));  // noise
  EXPECT_THAT(StripeMap::weights_of(Speeds{1, 3}), ElementsAre(1, 3));
  EXPECT_THAT(StripeMap::weights_of(Speeds{2, 3, 5}), ElementsAre(2, 3, 5));
  // The others would wait for it.
  EXPECT_THAT(StripeMap::weights_of(Speeds{1, 1000}), ElementsAre(0, 1));
}

TEST(StripeMap, NoMemberDelaysTheOthersByMoreThanTwoPercent) {
  std::mt19937_64 random(test_seed(5));
  for (int round = 0; round < 200; ++round) {
    std::vector<double> speeds(1 + random() % 8);
    for (double& speed : speeds) speed = 50e6 + double(random() % 7'000'000'000);
    const auto weights = StripeMap::weights_of(speeds);
    const auto places = std::accumulate(weights.begin(), weights.end(), 0.0);
    ASSERT_LE(places, StripeMap::kMaxPattern);
    double slowest = 0;
    for (std::size_t m = 0; m < speeds.size(); ++m) {
      slowest = std::max(slowest, weights[m] / speeds[m]);
    }
    const double together = std::accumulate(speeds.begin(), speeds.end(), 0.0);
    EXPECT_GE(places / slowest, 0.98 * together);
  }
}

TEST(StripeMapDeathTest, NoProductWrapsAround) {
  const StripeMap map = map_of({1, 3});
  EXPECT_EQ(map.member_bytes(1, INT64_MAX), (std::uint64_t{1} << 61) * 3);
  EXPECT_DEATH(map.member_bytes(1, std::uint64_t{INT64_MAX} + 1), "no file is of that many");
}

TEST(StripeMap, RefusesWhatMakesNoMap) {
  EXPECT_THAT(StripeMap::create(0, {1}).error().message(), HasSubstr("stripe_bytes is 0"));
  EXPECT_THAT(StripeMap::create(4095, {1}).error().message(), HasSubstr("multiple of 4096"));
  EXPECT_THAT(StripeMap::create(4096, {}).error().message(), HasSubstr("0 members"));
  EXPECT_THAT(StripeMap::create(4096, {0, 0}).error().message(), HasSubstr("weights is 0"));
  EXPECT_THAT(StripeMap::create(4096, {256, 1}).error().message(), HasSubstr("weights is 257"));
  EXPECT_FALSE(StripeMap::create(4096, std::vector<std::uint32_t>(65, 1)));
}

}  // namespace
}  // namespace spillway::aio
