#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/swapper/ram_tier.h>
#include <spillway/swapper/split_tier.h>

#include <cstring>

namespace spillway::swapper {
namespace {

using pinned_pool::Lease;
using pinned_pool::Policy;

const Layout kLayout({{"moment", 1}, {"scale", 4, 256}});
const RamTierOptions kPlain{.lock = Policy::kOff, .huge_pages = Policy::kOff, .cuda = Policy::kOff};

Lease heap_lease(std::size_t bytes) { return Lease(aio::Buffer::allocate(bytes)); }

std::unique_ptr<Tier> ram_tier(std::vector<std::uint64_t> elements) {
  auto tier = make_ram_tier(kLayout, std::move(elements), kPlain);
  EXPECT_TRUE(tier) << tier.error().message();
  return std::move(*tier);
}

TEST(RamTier, TilesAreZeroedAlignedAndApart) {
  const auto tier = ram_tier({5000, 1, 300});
  EXPECT_EQ(tier->tile_count(), 3u);
  EXPECT_EQ(tier->tile_elements(2), 300u);
  EXPECT_EQ(tier->storage_bytes(), 0u);
  EXPECT_GE(tier->memory_bytes(), 8192u + 4096 + 4 * 4096);
  unsigned mark = 0;
  for (TileId tile = 0; tile < 3; ++tile) {
    for (std::uint32_t plane = 0; plane < 2; ++plane) {
      std::byte* const data = tier->resident(tile, plane);
      const std::size_t bytes = kLayout.plane_bytes(plane, tier->tile_elements(tile));
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % kPlaneAlignment, 0u);
      for (std::size_t i = 0; i < bytes; ++i) ASSERT_EQ(data[i], std::byte{0});
      std::memset(data, int(++mark), bytes);
    }
  }
  mark = 0;
  for (TileId tile = 0; tile < 3; ++tile) {
    for (std::uint32_t plane = 0; plane < 2; ++plane) {
      EXPECT_EQ(*tier->resident(tile, plane), std::byte(++mark));
    }
  }
}

TEST(RamTier, MovesPlanesThroughLeases) {
  const auto tier = ram_tier({5000, 700});
  Lease lease = heap_lease(kLayout.tile_bytes(5000));
  std::memset(lease.data(), 7, lease.capacity());
  auto written = tier->write(1, {.first = 1, .count = 1}, std::move(lease)).wait();
  ASSERT_TRUE(written);
  EXPECT_EQ(*tier->resident(1, 1), std::byte{7});
  EXPECT_EQ(*tier->resident(1, 0), std::byte{0});
  auto read = tier->read(1, kLayout.all(), std::move(*written)).wait();
  ASSERT_TRUE(read);
  EXPECT_EQ(read->data()[0], std::byte{0});
  EXPECT_EQ(read->data()[kLayout.plane_offset(1, 700)], std::byte{7});
  EXPECT_EQ(tier->stats().written_bytes, 4096u);
  EXPECT_EQ(tier->stats().read_bytes, 8192u);
}

TEST(RamTier, NoTilesTakeNoMemory) { EXPECT_EQ(ram_tier({})->memory_bytes(), 0u); }

TEST(RamTier, WhatNoMachineHoldsIsRefusedWithTheArithmetic) {
  const auto tier = make_ram_tier(kLayout, {std::uint64_t{1} << 50}, kPlain);
  ASSERT_FALSE(tier);
  EXPECT_EQ(tier.error().kind, ErrorKind::kNoMemory);
  EXPECT_THAT(tier.error().message(), testing::HasSubstr("tiles in RAM"));
}

// Together they would take few bytes, by arithmetic that wraps around.
TEST(RamTier, TilesOfMoreBytesThanAnyMachineHasAreRefused) {
  const std::vector<std::uint64_t> elements(16, std::uint64_t{1} << 60);
  const auto tier = make_ram_tier(Layout({{"moment", 1}}), elements, kPlain);
  ASSERT_FALSE(tier);
  EXPECT_EQ(tier.error().kind, ErrorKind::kNoMemory);
  EXPECT_THAT(tier.error().message(), testing::HasSubstr("more than any machine can address"));
}

TEST(RamTierDeathTest, ABufferMustHoldThePlanes) {
  const auto tier = ram_tier({5000});
  EXPECT_DEATH((void)tier->read(0, kLayout.all(), heap_lease(4096)), "exceed the buffer");
  EXPECT_DEATH((void)tier->tile_elements(1), "no such tile");
  EXPECT_DEATH((void)tier->resident(1, 0), "no such tile");
  EXPECT_DEATH((void)tier->resident(0, kLayout.plane_count()), "no such plane");
  EXPECT_DEATH((void)make_ram_tier(kLayout, {5000, 0}), "at least one element");
}

TEST(TransferDeathTest, IsWaitedForOnce) {
  const auto tier = ram_tier({10});
  Transfer read = tier->read(0, kLayout.all(), heap_lease(kLayout.tile_bytes(10)));
  ASSERT_TRUE(read.wait());
  EXPECT_DEATH((void)read.wait(), "waited for once");
  EXPECT_DEATH((void)read.done(), "waited for once");
}

TEST(SplitTier, SendsEveryTileToItsTier) {
  auto upper = ram_tier({100, 300});
  auto lower = ram_tier({200, 400, 500});
  Tier& up = *upper;
  Tier& low = *lower;
  const auto split =
      make_split_tier({true, false, true, false, false}, std::move(upper), std::move(lower));
  EXPECT_EQ(split->tile_count(), 5u);
  for (TileId tile = 0; tile < 5; ++tile) {
    EXPECT_EQ(split->tile_elements(tile), (tile + 1) * 100);
  }
  EXPECT_EQ(split->resident(2, 1), up.resident(1, 1));
  EXPECT_EQ(split->resident(4, 0), low.resident(2, 0));
  EXPECT_EQ(split->memory_bytes(), up.memory_bytes() + low.memory_bytes());

  Lease lease = heap_lease(8192);
  std::memset(lease.data(), 9, 8192);
  ASSERT_TRUE(split->write(3, kLayout.all(), std::move(lease)).wait());
  EXPECT_EQ(*low.resident(1, 0), std::byte{9});
  ASSERT_TRUE(split->read(0, kLayout.all(), heap_lease(8192)).wait());
  EXPECT_EQ(up.stats().read_bytes, 8192u);
  EXPECT_EQ(split->stats().read_bytes, 0u);  // only what the lower tier moved
  EXPECT_EQ(split->stats().written_bytes, 8192u);
}

TEST(SplitTierDeathTest, CountsAndLayoutsMatch) {
  EXPECT_DEATH(make_split_tier({true}, ram_tier({1, 2}), ram_tier({})), "upper tier is used");
  EXPECT_DEATH(make_split_tier({true}, ram_tier({1}), ram_tier({2})), "lower tier is used");
  auto other = make_ram_tier(Layout({{"param", 4}}), {1}, kPlain);
  EXPECT_DEATH(make_split_tier({false}, ram_tier({}), std::move(*other)), "one layout");
}

}  // namespace
}  // namespace spillway::swapper
