// Ranges whose planes the compute function hashes itself, after it has changed them already.
#include <gtest/gtest.h>
#include <spillway/swapper/tile_stream.h>

#include "damage.h"
#include "store_fixture.h"

namespace spillway::swapper {
namespace {

const Layout kLayout({{"param_hi", 2}, {"exp_avg", 4}, {"scales", 4, 256}});
constexpr std::uint64_t kElements = 2 * kRangeElements + 100;

class RangeHashesTest : public testing::Test {
 protected:
  RangeHashesTest() : engine_(make_engine(aio::BackendKind::kAuto)) {
    auto store = TileStore::create(*engine_, kLayout, {kElements, kElements},
                                   {.directories = {directory_.path()}, .spare_fraction = 1.0});
    EXPECT_TRUE(store) << store.error().message();
    store_ = std::move(*store);
    auto pool = pinned_pool::Pool::create({.buffer_bytes = kLayout.tile_bytes(kElements),
                                           .buffer_count = 2,
                                           .name = "test",
                                           .huge_pages = pinned_pool::Policy::kOff,
                                           .lock = pinned_pool::Policy::kOff});
    EXPECT_TRUE(pool) << pool.error().message();
    pool_ = std::move(*pool);
    for (TileId tile = 0; tile < 2; ++tile) {
      EXPECT_TRUE(ok(write_tile(*store_, tile, kLayout.all(), tile)));
    }
  }

  // One for each plane, of a range.
  static std::vector<BlockHash> hashes(const PartView& part, const ElementRange& range) {
    std::vector<BlockHash> result(kLayout.plane_count());
    for (std::uint32_t i = 0; i < result.size(); ++i) {
      const Plane& plane = kLayout.planes()[i];
      const std::size_t first = kLayout.plane_bytes(i, range.first);
      const std::size_t end = kLayout.plane_bytes(i, range.first + range.count);
      EXPECT_EQ(first, range.first / plane.elements_per_block * plane.bytes_per_block);
      result[i].add({part.plane(i) + first, end - first});
    }
    return result;
  }
  static std::vector<ElementRange> ranges() {
    return {{.first = 0, .count = kRangeElements},
            {.first = kRangeElements, .count = kRangeElements},
            {.first = 2 * kRangeElements, .count = 100}};
  }
  // Hashes, changes, hashes again; then says what the tile was and what it is now.
  static Result<void> update(const PartView& part, std::uint32_t version) {
    std::vector<std::vector<BlockHash>> before, after;
    for (const ElementRange& range : ranges()) before.push_back(hashes(part, range));
    fill(part.plane(0), kLayout, kElements, kLayout.all(), version);
    for (const ElementRange& range : ranges()) after.push_back(hashes(part, range));
    for (std::size_t i = 0; i < before.size(); ++i) {
      if (auto verified = part.verify(ranges()[i], before[i]); !verified) return verified;
      part.record(ranges()[i], after[i]);
    }
    return {};
  }
  Result<void> stream(TileId tile, const std::function<Result<void>(const PartView&)>& compute) {
    const Item item = {{.tier = store_.get(),
                        .tile = tile,
                        .planes = kLayout.all(),
                        .access = Access::kReadWrite,
                        .pool = pool_.get(),
                        .checksums = Checksums::kInCompute}};
    const auto stats = TileStream::run(std::vector<Item>{item},
                                       [&](auto, auto parts) { return compute(parts[0]); });
    if (!stats) return tl::unexpected(stats.error());
    return {};
  }
  Result<void> update_one(TileId tile, std::uint32_t version) {
    return stream(tile, [&](const PartView& part) { return update(part, version); });
  }

  const Scratch directory_;
  std::unique_ptr<pinned_pool::Pool> pool_;
  std::unique_ptr<aio::Engine> engine_;
  std::unique_ptr<TileStore> store_;
};

TEST_F(RangeHashesTest, WhatWasHashedByTheCallerIsReadBack) {
  ASSERT_TRUE(ok(update_one(1, 10)));
  ASSERT_TRUE(ok(update_one(1, 11)));
  EXPECT_TRUE(ok(check_tile(*store_, 1, kLayout.all(), 11)));  // hashed by the store
  EXPECT_TRUE(ok(check_tile(*store_, 0, kLayout.all(), 0)));
}

TEST_F(RangeHashesTest, EitherWayMayBeUsedOfEachRange) {
  ASSERT_TRUE(ok(stream(1, [&](const PartView& part) -> Result<void> {
    EXPECT_TRUE(part.takes_hashes());
    const std::vector<BlockHash> before = hashes(part, ranges()[1]);
    if (auto verified = part.verify(0, kRangeElements); !verified) return verified;
    if (auto verified = part.verify(ranges()[1], before); !verified) return verified;
    if (auto verified = part.verify(2 * kRangeElements, 100); !verified) return verified;
    fill(part.plane(0), kLayout, kElements, kLayout.all(), 20);
    part.record(ranges()[0], hashes(part, ranges()[0]));
    part.record(kRangeElements, kRangeElements);
    part.record(ranges()[2], hashes(part, ranges()[2]));
    return {};
  })));
  EXPECT_TRUE(ok(check_tile(*store_, 1, kLayout.all(), 20)));
}

// The whole tile was computed on already, in its buffer, when the damage is seen.
TEST_F(RangeHashesTest, DamageLeavesTheStoredTileAsItIs) {
  for_each_damage(*store_, 1, [&](const Damage& damage) {
    expect_corrupt(update_one(1, 9), damage.named);
    expect_corrupt(check_tile(*store_, 1, kLayout.all(), 1), damage.named);
  });
  EXPECT_TRUE(ok(check_tile(*store_, 1, kLayout.all(), 1))) << "nothing else has changed";
  EXPECT_TRUE(ok(update_one(1, 9)));
}

TEST_F(RangeHashesTest, TheNextGenerationIsHashedAsTheNext) {
  ASSERT_TRUE(ok(store_->keep_generation(1)));
  ASSERT_TRUE(ok(update_one(1, 30)));
  EXPECT_EQ(store_->generation(1), 1u);
  EXPECT_TRUE(ok(check_tile(*store_, 1, kLayout.all(), 30)));
  store_->roll_back(1);
  EXPECT_TRUE(ok(update_one(1, 31)));
  EXPECT_TRUE(ok(check_tile(*store_, 1, kLayout.all(), 31)));
}

// A range of 16 bytes an element is two blocks: the store must do it.
TEST_F(RangeHashesTest, NotWhereARangeIsSeveralBlocks) {
  const Layout wide({{"bytes", 1}, {"wide", 16}});
  store_.reset();
  auto store = TileStore::create(*engine_, wide, {100}, {.directories = {directory_.path()}});
  ASSERT_TRUE(store) << store.error().message();
  EXPECT_TRUE((*store)->range_checks(0, {.first = 0, .count = 1})->takes_hashes());
  EXPECT_FALSE((*store)->range_checks(0, wide.all())->takes_hashes());
}

using RangeHashesDeathTest = RangeHashesTest;

TEST_F(RangeHashesDeathTest, TheSameOrderIsAskedFor) {
  ASSERT_TRUE(ok(stream(1, [&](const PartView& part) -> Result<void> {
    const ElementRange range = ranges()[0];
    const std::vector<BlockHash> found = hashes(part, range);
    EXPECT_DEATH(part.record(range, found), "verified before");
    EXPECT_DEATH((void)part.verify({.first = 0, .count = kElements}, found), "one range of each");
    EXPECT_DEATH((void)part.verify(range, std::span(found).first(1)), "one range of each");
    return update(part, 40);
  })));
}

}  // namespace
}  // namespace spillway::swapper
