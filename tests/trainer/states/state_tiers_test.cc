// What StateTiers keeps in RAM of states on NVMe, and how it gives that back.
#include "trainer/states/state_tiers.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/swapper/tile_stream.h>

#include "tests/support/scratch.h"

namespace spillway::trainer {
namespace {

using pinned_pool::MemoryLimits;
using ::testing::Contains;
using ::testing::HasSubstr;

constexpr std::uint64_t kElements = 40'960;
constexpr std::size_t kTiles = 12;

// One rank of so many on this machine, the only one that is there.
class OneOfMany final : public Communicator {
 public:
  explicit OneOfMany(std::uint32_t local_ranks) : local_ranks_(local_ranks) {}
  std::uint32_t rank() const noexcept override { return 0; }
  std::uint32_t world_size() const noexcept override { return 1; }
  std::uint32_t local_world_size() const noexcept override { return local_ranks_; }
  const char* backend_name() const noexcept override { return "none"; }
  void all_gather(at::Tensor full, const at::Tensor& part) override { full.copy_(part); }
  void reduce_scatter(at::Tensor part, at::Tensor full) override { part.copy_(full); }
  double all_reduce_sum(double value) override { return value; }
  void barrier() override {}

 private:
  const std::uint32_t local_ranks_;
};

class StateTiersTest : public ::testing::Test {
 protected:
  std::unique_ptr<StateTiers> make(std::uint64_t max_in_cpu) { return make(max_in_cpu, *ranks_); }
  std::unique_ptr<StateTiers> make(std::uint64_t max_in_cpu, Communicator& ranks) {
    Config config;
    config.dtype = Dtype::kBf16;
    for (OffloadConfig* offload : {&config.offload_param, &config.offload_optimizer}) {
      offload->device = OffloadDevice::kNvme;
      offload->nvme_path = scratch_.path();
      offload->max_in_cpu_elements = max_in_cpu;
    }
    config.update_order = order_;
    const std::vector<std::uint64_t> tiles(kTiles, kElements);
    return std::make_unique<StateTiers>(
        config, StateTiers::Tiles{.all = tiles, .trainable = tiles, .max_unit_tiles = 3}, ranks,
        at::Device(at::kCPU));
  }
  // Every byte of every tile becomes `to`; `from` is what it must be before.
  static void sweep(StateTiers& tiers, swapper::Access access, int from, int to) {
    for (auto [tier, pool] : {std::pair(&tiers.weights(), tiers.weight_pool()),
                              std::pair(&tiers.optimizer(), tiers.optimizer_pool())}) {
      const auto visit = [&, tier = tier](swapper::TileId tile, const swapper::PartView& planes) {
        for (std::uint32_t plane = 0; plane < tier->layout().plane_count(); ++plane) {
          const std::span bytes(planes.plane(plane),
                                tier->layout().plane_bytes(plane, planes.elements()));
          if (access != swapper::Access::kWrite) {
            EXPECT_TRUE(
                std::ranges::all_of(bytes, [&](std::byte byte) { return byte == std::byte(from); }))
                << "tile " << tile;
          }
          std::ranges::fill(bytes, std::byte(to));
        }
      };
      const auto swept = swapper::TileStream::for_each_tile(*tier, access, *pool, visit);
      ASSERT_TRUE(swept) << swept.error().message();
    }
  }
  static std::uint64_t moved_by_a_sweep(StateTiers& tiers, int from, int to) {
    const std::uint64_t before = tiers.nvme_read_bytes();
    sweep(tiers, swapper::Access::kReadWrite, from, to);
    return tiers.nvme_read_bytes() - before;
  }

  UpdateOrder order_ = UpdateOrder::kForward;  // weights in RAM are not copied
  Scratch scratch_;
  std::unique_ptr<Communicator> ranks_ = Communicator::from_environment(at::kCPU);
};

constexpr std::uint64_t kBytes = 12 * kElements * kTiles;

TEST_F(StateTiersTest, TheBytesOfAStepFallByTheCachedShare) {
  for (const std::uint64_t quarters : {0, 1, 2, 3, 4}) {
    const auto tiers = make(quarters * kTiles / 4 * kElements);
    sweep(*tiers, swapper::Access::kWrite, 0, 1);
    EXPECT_EQ(moved_by_a_sweep(*tiers, 1, 2), kBytes / 4 * (4 - quarters));
    EXPECT_EQ(moved_by_a_sweep(*tiers, 2, 3), kBytes / 4 * (4 - quarters));
  }
}

TEST_F(StateTiersTest, WhatIsFreeIsTakenAndGivenBackUnderPressure) {
  const auto tiers = make(OffloadConfig::kAutoCache);
  sweep(*tiers, swapper::Access::kWrite, 0, 1);
  EXPECT_EQ(moved_by_a_sweep(*tiers, 1, 2), 0u);  // this needs some hundred free MiB
  EXPECT_THAT(tiers->notes(), Contains(HasSubstr("keeps 100% of the parameters and 100% of the "
                                                 "optimizer states in RAM (")));
  const std::size_t notes = tiers->notes().size();

  MemoryLimits roomy = MemoryLimits::read();
  tiers->relieve_pressure(roomy, {.resident_bytes = 1 << 20, .peak_resident_bytes = 1 << 20});
  EXPECT_EQ(moved_by_a_sweep(*tiers, 2, 3), 0u);
  EXPECT_EQ(tiers->notes().size(), notes);

  MemoryLimits tight = roomy;
  tight.available_bytes = 0;
  tiers->relieve_pressure(tight, {.resident_bytes = 1 << 20, .peak_resident_bytes = 1 << 20});
  EXPECT_EQ(moved_by_a_sweep(*tiers, 3, 4), kBytes);
  ASSERT_EQ(tiers->notes().size(), notes + 1);
  EXPECT_THAT(tiers->notes().back(), HasSubstr("of cached states back"));
  tiers->relieve_pressure(tight, {.resident_bytes = 1 << 20, .peak_resident_bytes = 1 << 20});
  EXPECT_EQ(tiers->notes().size(), notes + 1);
  EXPECT_EQ(moved_by_a_sweep(*tiers, 4, 5), kBytes);
}

TEST_F(StateTiersTest, TwoGenerationsAreKeptWhereTheOrderNeedsThem) {
  const auto keeps = [&](UpdateOrder order) {
    order_ = order;
    const auto tiers = make(0);
    EXPECT_EQ(tiers->weights().keeps_generations(0), tiers->optimizer().keeps_generations(0));
    return tiers->weights().keeps_generations(0);
  };
  EXPECT_FALSE(keeps(UpdateOrder::kForward));
  EXPECT_TRUE(keeps(UpdateOrder::kBackward));
  EXPECT_TRUE(keeps(UpdateOrder::kAuto)) << "the drive has room";
}

// What is missing is shared by the ranks, and taken where a byte saves least.
TEST_F(StateTiersTest, NoMoreIsGivenBackThanIsMissingAndOptimizerStatesFirst) {
  constexpr std::uint64_t kWeightBytes = 2 * kElements * kTiles;
  MemoryLimits limits = MemoryLimits::read();
  const std::uint64_t margin = cache_margin_bytes(free_ram_bytes(limits, false));
  // Each misses four times what the weights take; the optimizer states take five times as much.
  OneOfMany ranks(static_cast<std::uint32_t>(margin * 3 / 4 / (4 * kWeightBytes)));
  const auto tiers = make(OffloadConfig::kAutoCache, ranks);
  sweep(*tiers, swapper::Access::kWrite, 0, 1);
  ASSERT_EQ(moved_by_a_sweep(*tiers, 1, 2), 0u);
  const std::uint64_t cached = tiers->optimizer().memory_bytes();
  ASSERT_GE(cached, kBytes - kWeightBytes);
  const auto relieve = [&](std::uint64_t free_bytes) {
    limits.cgroup_limit_bytes = MemoryLimits::kUnlimited;
    limits.available_bytes = free_bytes;
    tiers->relieve_pressure(limits, {});
  };
  relieve(margin * 3 / 4);
  EXPECT_EQ(moved_by_a_sweep(*tiers, 2, 3), 0u) << "more than half of the margin is free";
  relieve(margin / 4);
  EXPECT_EQ(moved_by_a_sweep(*tiers, 3, 4), kBytes - kWeightBytes);
  EXPECT_LT(tiers->optimizer().memory_bytes(), cached / 2);
  EXPECT_GE(tiers->weights().memory_bytes(), kWeightBytes);
  relieve(margin / 4);
  EXPECT_EQ(moved_by_a_sweep(*tiers, 4, 5), kBytes) << "then the weights";
}

// A process that has just freed what its last step needed will need it again.
TEST_F(StateTiersTest, ThePeakOfTheLastStepIsKeptFree) {
  const auto tiers = make(OffloadConfig::kAutoCache);
  sweep(*tiers, swapper::Access::kWrite, 0, 1);
  const MemoryLimits limits = MemoryLimits::read();
  tiers->relieve_pressure(limits,
                          {.resident_bytes = 0, .peak_resident_bytes = limits.available_bytes});
  EXPECT_EQ(moved_by_a_sweep(*tiers, 1, 2), kBytes);
}

}  // namespace
}  // namespace spillway::trainer
