#include "trainer/plan/cache_plan.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include "trainer/plan/state_buffers.h"

namespace spillway::trainer {
namespace {

using pinned_pool::MemoryLimits;
using ::testing::HasSubstr;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

TEST(FreeRam, IsTheLeastOfTheLimits) {
  MemoryLimits limits;
  limits.available_bytes = 9 * kGiB;
  EXPECT_EQ(free_ram_bytes(limits, false), 9 * kGiB);
  limits.cgroup_limit_bytes = 4 * kGiB;
  limits.cgroup_used_bytes = kGiB;
  EXPECT_EQ(free_ram_bytes(limits, false), 3 * kGiB);
  limits.memlock_bytes = 2 * kGiB;
  limits.locked_bytes = kGiB / 2;
  EXPECT_EQ(free_ram_bytes(limits, false), 3 * kGiB);
  EXPECT_EQ(free_ram_bytes(limits, true), 3 * kGiB / 2);
  limits.cgroup_used_bytes = 5 * kGiB;
  EXPECT_EQ(free_ram_bytes(limits, false), 0u);
}

TEST(CachePlan, TakesWhatTheMarginAndTheNeedsLeaveWeightsFirst) {
  const CachePlan plan = plan_cache({.free_bytes = 8 * kGiB,
                                     .other_bytes = kGiB,
                                     .weights = {.elements = 1000, .bytes = kGiB},
                                     .optimizer = {.elements = 1000, .bytes = 8 * kGiB}});
  EXPECT_EQ(plan.margin_bytes, 2 * kGiB);
  EXPECT_EQ(plan.weight_elements, 1000u);
  EXPECT_EQ(plan.optimizer_elements, 500u);  // 8 - 2 - 1 - 1 = 4 GiB of 8
  EXPECT_EQ(plan.note,
            "keeps 100% of the parameters and 50% of the optimizer states in RAM (5.0 GiB of 8.0 "
            "GiB free; 1.0 GiB are for buffers, gradients and weights in use, 2.0 GiB stay free); "
            "max_in_cpu sets it");
}

TEST(CachePlan, RanksOfAMachineShareIt) {
  CacheNeeds needs{.free_bytes = 8 * kGiB,
                   .local_ranks = 2,
                   .other_bytes = kGiB,
                   .optimizer = {.elements = 1000, .bytes = 8 * kGiB}};
  const CachePlan plan = plan_cache(needs);
  EXPECT_EQ(plan.optimizer_elements, 250u);  // (8 - 2) / 2 - 1 = 2 GiB
  EXPECT_THAT(plan.note, HasSubstr("keeps 25% of the optimizer states in RAM (2.0 GiB of 8.0 GiB "
                                   "free, shared by 2 ranks;"));
}

TEST(CachePlan, WhatIsNotThereIsNotTaken) {
  const CacheableStore states{.elements = 1000, .bytes = kGiB};
  EXPECT_EQ(plan_cache({.free_bytes = 100 * kMiB, .optimizer = states}).optimizer_elements, 0u);
  EXPECT_EQ(plan_cache({.free_bytes = 2 * kGiB, .other_bytes = 2 * kGiB, .optimizer = states})
                .optimizer_elements,
            0u);
  EXPECT_EQ(
      plan_cache({.free_bytes = kGiB, .other_bytes = 0, .optimizer = states}).optimizer_elements,
      500u);  // 512 MiB are the least margin
  EXPECT_EQ(plan_cache({.free_bytes = kGiB}).note, "");
}

TEST(StateBuffers, FollowFromTheQueueAndTheTiles) {
  Config config;
  config.aio.queue_depth = 32;
  config.aio.thread_count = 1;
  config.aio.block_size_bytes = 1 << 20;
  const TileCounts large{.tiles = 100, .max_unit_tiles = 12, .largest_bytes = 10 * kMiB};
  EXPECT_EQ(update_buffer_count(config, large), 4u + 3u);
  EXPECT_EQ(weight_buffer_count(config, large), 7u);
  config.aio.thread_count = 2;
  EXPECT_EQ(update_buffer_count(config, large), 7u + 3u);
  const TileCounts few{.tiles = 3, .max_unit_tiles = 1, .largest_bytes = 4096};
  EXPECT_EQ(update_buffer_count(config, few), 3u);
  EXPECT_EQ(weight_buffer_count(config, few), 2u);
  EXPECT_EQ(update_buffer_count(config, {}), 0u);
}

}  // namespace
}  // namespace spillway::trainer
