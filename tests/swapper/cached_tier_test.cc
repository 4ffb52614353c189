#include <gtest/gtest.h>
#include <spillway/pinned_pool/limits.h>
#include <spillway/swapper/cached_tier.h>
#include <spillway/swapper/schedule.h>
#include <spillway/swapper/tile_stream.h>

#include <cstring>
#include <numeric>

#include "store_fixture.h"
#include "support/simulator.h"

namespace spillway::swapper {
namespace {

const Layout kLayout({{"param", 4}, {"exp_avg", 4}});
constexpr TileId kTiles = 16;
constexpr std::uint64_t kElements = 10'240;  // a plane has no padding
constexpr std::uint64_t kTileBytes = 8 * kElements;

class CachedTierTest : public testing::Test {
 protected:
  CachedTierTest() : control_(std::make_shared<aio::SimulatorControl>()) {
    auto engine = aio::Engine::create({.block_size_bytes = 1 << 20, .queue_depth = 8},
                                      aio::simulator_backend(control_));
    EXPECT_TRUE(engine) << engine.error().message();
    engine_ = std::move(*engine);
    auto pool = pinned_pool::Pool::create({.buffer_bytes = kTileBytes,
                                           .buffer_count = 3,
                                           .name = "test",
                                           .huge_pages = pinned_pool::Policy::kOff,
                                           .lock = pinned_pool::Policy::kOff});
    EXPECT_TRUE(pool) << pool.error().message();
    pool_ = std::move(*pool);
  }

  static std::vector<bool> resident_tiles(std::uint64_t count) {
    std::vector<TileId> uses(kTiles);
    std::iota(uses.begin(), uses.end(), TileId{0});
    return choose_resident(Schedule(uses, kTiles), std::vector<std::uint64_t>(kTiles, kElements),
                           count * kElements);
  }
  std::unique_ptr<CachedTier> cache(std::uint64_t tiles, std::uint64_t tiles_a_chunk = 1) {
    auto store = TileStore::create(*engine_, kLayout, std::vector<std::uint64_t>(kTiles, kElements),
                                   {.directories = {scratch_.path()}, .segment_bytes = 1 << 20});
    EXPECT_TRUE(store) << store.error().message();
    auto tier = CachedTier::create(
        std::move(*store), resident_tiles(tiles),
        {.ram = {.lock = pinned_pool::Policy::kOff, .huge_pages = pinned_pool::Policy::kOff},
         .chunk_bytes = tiles_a_chunk * kTileBytes});
    EXPECT_TRUE(tier) << tier.error().message();
    return std::move(*tier);
  }
  std::vector<Item> items(Tier& tier, Access access) {
    std::vector<Item> items;
    for (TileId tile = 0; tile < kTiles; ++tile) {
      items.push_back({{.tier = &tier,
                        .tile = tile,
                        .planes = kLayout.all(),
                        .access = access,
                        .pool = pool_.get()}});
    }
    return items;
  }
  Result<void> give_all(Tier& tier, std::uint32_t version) {
    const auto run = TileStream::run(items(tier, Access::kWrite), [&](auto item, auto parts) {
      fill_planes(parts[0], version + std::uint32_t(item));
      return Result<void>{};
    });
    if (!run) return tl::unexpected(run.error());
    return {};
  }
  // Checks that tile t has version `from + t`, and gives it `to + t`.
  Result<void> step(Tier& tier, std::uint32_t from, std::uint32_t to) {
    const auto run = TileStream::run(items(tier, Access::kReadWrite), [&](auto item, auto parts) {
      EXPECT_TRUE(has_planes(parts[0], from + std::uint32_t(item))) << "tile " << item;
      fill_planes(parts[0], to + std::uint32_t(item));
      return Result<void>{};
    });
    if (!run) return tl::unexpected(run.error());
    return {};
  }
  static std::uint32_t value(std::uint32_t version, std::uint64_t i) {
    return version * 0x9e3779b9U + std::uint32_t(i);
  }
  static void fill_planes(const PartView& part, std::uint32_t version) {
    for (std::uint32_t plane = 0; plane < 2; ++plane) {
      auto values = part.values<std::uint32_t>(plane);
      for (std::uint64_t i = 0; i < kElements; ++i) values[i] = value(version, 2 * i + plane);
    }
  }
  static bool has_planes(const PartView& part, std::uint32_t version) {
    for (std::uint32_t plane = 0; plane < 2; ++plane) {
      const auto values = part.values<std::uint32_t>(plane);
      for (std::uint64_t i = 0; i < kElements; ++i) {
        if (values[i] != value(version, 2 * i + plane)) return false;
      }
    }
    return true;
  }

  const Scratch scratch_;
  const std::shared_ptr<aio::SimulatorControl> control_;
  std::unique_ptr<pinned_pool::Pool> pool_;
  std::unique_ptr<aio::Engine> engine_;
};

TEST_F(CachedTierTest, TheBytesOfAStepFallByTheCachedShare) {
  for (const std::uint64_t cached : {0, 4, 8, 12, 16}) {
    const auto tier = cache(cached, 3);
    EXPECT_EQ(tier->cached_elements(), cached * kElements);
    ASSERT_TRUE(ok(give_all(*tier, 100)));
    const TierStats before = tier->stats();
    ASSERT_TRUE(ok(step(*tier, 100, 200)));
    const TierStats after = tier->stats();
    EXPECT_EQ(after.read_bytes - before.read_bytes, (kTiles - cached) * kTileBytes);
    EXPECT_EQ(after.written_bytes - before.written_bytes, (kTiles - cached) * kTileBytes);
    EXPECT_EQ(tier->storage_bytes(), kTiles * kTileBytes);  // room for all
    ASSERT_TRUE(ok(step(*tier, 200, 300)));
  }
}

TEST_F(CachedTierTest, WhatIsGivenBackGoesToItsPlaceOnFile) {
  const auto tier = cache(12, 2);
  ASSERT_TRUE(ok(give_all(*tier, 100)));
  std::uint32_t version = 100;
  std::uint64_t cached = tier->cached_bytes();
  EXPECT_EQ(cached, 12 * kTileBytes);
  for (const std::uint64_t tiles : {1, 3, 2, 100, 1}) {
    const auto freed = tier->demote(tiles * kTileBytes, *pool_);
    ASSERT_TRUE(freed) << freed.error().message();
    EXPECT_EQ(*freed, std::min((tiles + 1) / 2 * 2 * kTileBytes, cached));  // whole chunks
    cached -= *freed;
    EXPECT_EQ(tier->cached_bytes(), cached);
    ASSERT_TRUE(ok(step(*tier, version, version + 100)));
    version += 100;
  }
  EXPECT_EQ(cached, 0u);
  EXPECT_EQ(tier->cached_elements(), 0u);
  EXPECT_EQ(pool_->available(), 3u);
}

TEST_F(CachedTierTest, TheProcessShrinksByWhatIsGivenBack) {
  constexpr std::uint64_t kMiB = 1 << 20;
  const Layout layout({{"bytes", 1}});
  const std::vector<std::uint64_t> sizes(kTiles, 8 * kMiB);
  auto store = TileStore::create(*engine_, layout, sizes, {.directories = {scratch_.path()}});
  ASSERT_TRUE(store) << store.error().message();
  auto tier = CachedTier::create(
      std::move(*store), std::vector<bool>(kTiles, true),
      {.ram = {.lock = pinned_pool::Policy::kOff, .huge_pages = pinned_pool::Policy::kOff},
       .chunk_bytes = 16 * kMiB});
  ASSERT_TRUE(tier) << tier.error().message();
  for (TileId tile = 0; tile < kTiles; ++tile) {
    std::memset((*tier)->resident(tile, 0), tile, 8 * kMiB);
  }
  auto pool = pinned_pool::Pool::create({.buffer_bytes = 8 * kMiB,
                                         .buffer_count = 1,
                                         .name = "test",
                                         .huge_pages = pinned_pool::Policy::kOff,
                                         .lock = pinned_pool::Policy::kOff});
  ASSERT_TRUE(pool) << pool.error().message();
  const std::uint64_t before = pinned_pool::memory_usage().resident_bytes;
  const auto freed = (*tier)->demote(100 * kMiB, **pool);
  ASSERT_TRUE(freed) << freed.error().message();
  EXPECT_EQ(*freed, 112 * kMiB);  // whole chunks
  EXPECT_EQ((*tier)->cached_bytes(), 16 * kMiB);
  // The buffer is new, and the simulator and sanitizers need something too.
  EXPECT_LT(pinned_pool::memory_usage().resident_bytes, before - 64 * kMiB);
}

TEST_F(CachedTierTest, WhatStaysIsSpreadOverTheStep) {
  const auto tier = cache(8, 1);
  ASSERT_TRUE(ok(give_all(*tier, 100)));
  ASSERT_TRUE(tier->demote(4 * kTileBytes, *pool_));
  for (TileId first = 0; first < kTiles; first += 8) {
    int resident = 0;
    for (TileId tile = first; tile < first + 8; ++tile) {
      resident += tier->resident(tile, 0) != nullptr ? 1 : 0;
    }
    EXPECT_NEAR(resident, 2, 1) << "tiles from " << first;
  }
}

// A Tier of tiles of any size, which nobody reads or writes.
class VastTier final : public Tier {
 public:
  VastTier(std::uint32_t tiles, std::uint64_t elements) : tiles_(tiles), elements_(elements) {}
  const char* name() const noexcept override { return "vast"; }
  const Layout& layout() const noexcept override { return layout_; }
  std::uint32_t tile_count() const noexcept override { return tiles_; }
  std::uint64_t tile_elements(TileId) const override { return elements_; }
  std::byte* resident(TileId, std::uint32_t) noexcept override { return nullptr; }
  Transfer read(TileId, PlaneRange, pinned_pool::Lease lease, aio::Priority) override {
    return Transfer::completed(std::move(lease));
  }
  Transfer write(TileId, PlaneRange, pinned_pool::Lease lease) override {
    return Transfer::completed(std::move(lease));
  }
  TierStats stats() const noexcept override { return {}; }
  std::uint64_t memory_bytes() const noexcept override { return 0; }
  std::uint64_t storage_bytes() const noexcept override { return 0; }

 private:
  const Layout layout_{std::vector<Plane>{{"bytes", 1}}};
  const std::uint32_t tiles_;
  const std::uint64_t elements_;
};

// Memory that is not touched yet is missing nowhere: MemAvailable stays what it was, chunk by
// chunk.
TEST_F(CachedTierTest, AsMuchAsFitsIsNoMoreThanThereIs) {
  constexpr std::uint64_t kChunk = 64 << 20;
  const std::uint64_t available = pinned_pool::MemoryLimits::read().available_bytes;
  const auto tiles = static_cast<std::uint32_t>(2 * available / kChunk);
  auto tier =
      CachedTier::create(std::make_unique<VastTier>(tiles, kChunk), std::vector<bool>(tiles, true),
                         {.ram = {.lock = pinned_pool::Policy::kOff,
                                  .huge_pages = pinned_pool::Policy::kOff,
                                  .cuda = pinned_pool::Policy::kOff},
                          .chunk_bytes = kChunk,
                          .as_much_as_fits = true});
  ASSERT_TRUE(tier) << tier.error().message();
  EXPECT_GT((*tier)->cached_bytes(), 0u);
  EXPECT_LT((*tier)->cached_bytes(), available / 4 * 5) << "of memory that others may have freed";
}

TEST_F(CachedTierTest, ADiskThatFailsTakesNothingFromRam) {
  const auto tier = cache(16, 4);
  ASSERT_TRUE(ok(give_all(*tier, 100)));
  control_->plan({.kind = aio::FaultKind::kError, .direction = aio::Direction::kWrite, .nth = 6});
  control_->plan({.kind = aio::FaultKind::kError,
                  .direction = aio::Direction::kWrite,
                  .nth = 7,
                  .forever = true,
                  .errno_value = ENOSPC});
  const auto freed = tier->demote(16 * kTileBytes, *pool_);
  ASSERT_FALSE(freed);
  EXPECT_EQ(freed.error().kind, ErrorKind::kIo) << "the first";
  EXPECT_EQ(tier->stats().written_bytes, 5 * kTileBytes);
  EXPECT_EQ(tier->cached_bytes(), 12 * kTileBytes);  // one chunk had gone
  EXPECT_EQ(pool_->available(), 3u);
  control_->clear();
  ASSERT_TRUE(ok(step(*tier, 100, 200)));
  ASSERT_TRUE(tier->demote(16 * kTileBytes, *pool_));
  ASSERT_TRUE(ok(step(*tier, 200, 300)));
}

}  // namespace
}  // namespace spillway::swapper
