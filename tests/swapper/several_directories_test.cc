// A store over drives of uneven speed: the same bits as on one, and each drive's part accounted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/swapper/tile_store.h>

#include <cmath>

#include "names_in.h"
#include "store_fixture.h"

namespace spillway::swapper {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

const Layout kLayout({{"param_hi", 2}, {"param_lo", 2}});
constexpr PlaneRange kAll{.first = 0, .count = 2};
constexpr std::uint64_t kElements = 1 << 16;
constexpr std::uint64_t kTileBytes = kElements * 4;
constexpr TileId kTiles = 40;

class SeveralDirectories : public testing::Test {
 protected:
  SeveralDirectories() : engine_(make_engine(aio::BackendKind::kAuto)) {}
  Result<std::unique_ptr<TileStore>> create(TileStoreOptions options) {
    options.directories = {slow_.path(), fast_.path()};
    options.segment_bytes = 8 * kTileBytes;
    return TileStore::create(*engine_, kLayout, std::vector(kTiles, kElements), options);
  }
  Scratch slow_;
  Scratch fast_;
  std::unique_ptr<aio::Engine> engine_;
};

TEST_F(SeveralDirectories, EachHoldsAndMovesItsShare) {
  auto created = create({.speeds = {1, 3}});
  ASSERT_TRUE(created) << created.error().message();
  TileStore& tiles = **created;
  for (TileId tile = 0; tile < kTiles; ++tile) ASSERT_TRUE(ok(write_tile(tiles, tile, kAll, tile)));
  for (TileId tile = 0; tile < kTiles; ++tile) EXPECT_TRUE(ok(check_tile(tiles, tile, kAll, tile)));
  const auto stats = tiles.directory_stats();
  ASSERT_EQ(stats.size(), 2u);
  EXPECT_EQ(stats[0].path, slow_.path().string());
  EXPECT_EQ(stats[1].path, fast_.path().string());
  EXPECT_EQ(stats[1].speed, 3);
  for (const auto& [index, share] : {std::pair(0, 10u), std::pair(1, 30u)}) {
    EXPECT_EQ(stats[index].stored_bytes, share * kTileBytes);
    EXPECT_EQ(stats[index].written_bytes, share * kTileBytes);
    EXPECT_EQ(stats[index].read_bytes, share * kTileBytes);
  }
  EXPECT_EQ(tiles.stats().written_bytes, kTiles * kTileBytes);
  for (TileId tile = 0; tile < 8; ++tile) {
    EXPECT_THAT(tiles.place(tile).path, HasSubstr((tile % 4 == 2 ? slow_ : fast_).path().string()));
  }
}

TEST_F(SeveralDirectories, GenerationsKeepTheirBits) {
  auto created = create({.speeds = {2, 1}, .spare_fraction = 0.5});
  ASSERT_TRUE(created) << created.error().message();
  TileStore& tiles = **created;
  for (TileId tile = 0; tile < kTiles; ++tile) ASSERT_TRUE(ok(write_tile(tiles, tile, kAll, tile)));
  for (TileId round = 1; round <= 3; ++round) {
    for (TileId tile = round; tile < kTiles; tile += 2) {
      ASSERT_TRUE(ok(tiles.keep_generation(tile)));
      ASSERT_TRUE(ok(write_tile(tiles, tile, kAll, 1000 * round + tile)));
    }
    for (TileId tile = round; tile < kTiles; tile += 2) {
      EXPECT_TRUE(ok(check_tile(tiles, tile, kAll, 1000 * round + tile)));
      tiles.roll_back(tile);
      EXPECT_TRUE(ok(check_tile(tiles, tile, kAll, tile)));
    }
  }
  const auto stats = tiles.directory_stats();
  EXPECT_EQ(stats[0].stored_bytes + stats[1].stored_bytes, 60 * kTileBytes);
  EXPECT_EQ(stats[0].stored_bytes, 40 * kTileBytes);
  EXPECT_EQ(stats[0].written_bytes + stats[1].written_bytes, tiles.stats().written_bytes);
}

TEST_F(SeveralDirectories, SpeedsCanBeMeasured) {
  auto created = create({.measure_speeds = true});
  ASSERT_TRUE(created) << created.error().message();
  for (const auto& stats : (*created)->directory_stats()) EXPECT_GT(stats.speed, 1e5);
  for (TileId tile = 0; tile < kTiles; ++tile) {
    ASSERT_TRUE(ok(write_tile(**created, tile, kAll, tile)));
    EXPECT_TRUE(ok(check_tile(**created, tile, kAll, tile)));
  }
  created->reset();
  EXPECT_THAT(names_in(slow_.path()), IsEmpty());
  EXPECT_THAT(names_in(fast_.path()), IsEmpty());
}

TEST_F(SeveralDirectories, SpeedsThatMakeNoSenseAreRefused) {
  for (const std::vector<double>& speeds :
       {std::vector<double>{1}, {1, 0}, {1, -1}, {1, std::nan("")}}) {
    const auto refused = create({.speeds = speeds});
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message(), HasSubstr("speeds: must be positive, one for each"));
  }
}

}  // namespace
}  // namespace spillway::swapper
