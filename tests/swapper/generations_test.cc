#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/swapper/tile_store.h>

#include <set>

#include "store_fixture.h"

namespace spillway::swapper {
namespace {

using testing::HasSubstr;

const Layout kLayout({{"param_hi", 2}, {"param_lo", 2}});
constexpr PlaneRange kAll{.first = 0, .count = 2};

class GenerationsTest : public testing::Test {
 protected:
  GenerationsTest() : engine_(make_engine(aio::BackendKind::kAuto)) {}
  std::unique_ptr<TileStore> store(const std::vector<std::uint64_t>& elements, double spare) {
    auto created = TileStore::create(
        *engine_, kLayout, elements,
        {.directories = {directory_.path()}, .segment_bytes = 1 << 16, .spare_fraction = spare});
    EXPECT_TRUE(created) << created.error().message();
    return std::move(*created);
  }
  Scratch directory_;
  std::unique_ptr<aio::Engine> engine_;
};

std::pair<std::string, std::uint64_t> at(const TileStore& tiles, TileId tile) {
  return {tiles.place(tile).path, tiles.place(tile).offset};
}

TEST_F(GenerationsTest, TheNextWriteGoesElsewhereAndRollBackReturns) {
  const auto tiles = store({5000, 5000}, 0.5);
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 1)));
  const auto first_place = at(*tiles, 0);
  EXPECT_EQ(tiles->generation(0), 0u);

  ASSERT_TRUE(ok(tiles->keep_generation(0)));
  EXPECT_EQ(tiles->generation(0), 0u);  // until it is written
  EXPECT_TRUE(ok(check_tile(*tiles, 0, kAll, 1)));
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 2)));
  EXPECT_EQ(tiles->generation(0), 1u);
  EXPECT_NE(at(*tiles, 0), first_place);
  EXPECT_TRUE(ok(check_tile(*tiles, 0, kAll, 2)));
  ASSERT_TRUE(ok(write_tile(*tiles, 0, {.first = 1, .count = 1}, 3)));  // planes alone again
  EXPECT_TRUE(ok(check_tile(*tiles, 0, {.first = 1, .count = 1}, 3)));

  tiles->roll_back(0);
  EXPECT_EQ(tiles->generation(0), 0u);
  EXPECT_EQ(at(*tiles, 0), first_place);
  EXPECT_TRUE(ok(check_tile(*tiles, 0, kAll, 1)));

  ASSERT_TRUE(ok(tiles->keep_generation(0)));
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 4)));
  EXPECT_EQ(tiles->generation(0), 2u);  // 1 was dropped and does not come again
  tiles->drop_kept(0);
  EXPECT_TRUE(ok(check_tile(*tiles, 0, kAll, 4)));
}

TEST_F(GenerationsTest, KeptAndNotWrittenChangesNothing) {
  const auto tiles = store({5000}, 1.0);
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 1)));
  const auto place = at(*tiles, 0);
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(ok(tiles->keep_generation(0)));
    round % 2 == 0 ? tiles->drop_kept(0) : tiles->roll_back(0);
    EXPECT_EQ(at(*tiles, 0), place);
    EXPECT_EQ(tiles->generation(0), 0u);
    EXPECT_TRUE(ok(check_tile(*tiles, 0, kAll, 1)));
  }
}

TEST_F(GenerationsTest, TheSpareRoomIsUsedUpAndGivenBack) {
  const auto tiles = store({5000, 5000, 5000, 5000}, 0.5);
  for (TileId tile = 0; tile < 4; ++tile) ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, tile)));
  ASSERT_TRUE(ok(tiles->keep_generation(0)));
  ASSERT_TRUE(ok(tiles->keep_generation(1)));
  const auto third = tiles->keep_generation(2);
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().kind, ErrorKind::kNoSpace);
  EXPECT_THAT(third.error().message(), HasSubstr("spare_fraction"));
  EXPECT_TRUE(ok(check_tile(*tiles, 2, kAll, 2)));
  tiles->drop_kept(1);
  EXPECT_TRUE(ok(tiles->keep_generation(2)));
}

// Every tile of every size can be kept over and over: the room of one size is not lost to another.
TEST_F(GenerationsTest, RoomForAllIsRoomForAllForEver) {
  const std::vector<std::uint64_t> elements{5000, 5000, 5000, 77, 3000, 77};
  const auto tiles = store(elements, 1.0);
  std::uint32_t version = 100;
  std::vector<std::uint32_t> versions(elements.size());
  for (int round = 0; round < 6; ++round) {
    std::set<std::pair<std::string, std::uint64_t>> places;
    for (TileId tile = 0; tile < elements.size(); ++tile) {
      if (round > 0) {
        ASSERT_TRUE(ok(tiles->keep_generation(tile)));
      }
      places.insert(at(*tiles, tile));
      ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, versions[tile] = ++version)));
      if (round > 0) places.insert(at(*tiles, tile));
    }
    // Nothing lies on anything else.
    EXPECT_EQ(places.size(), elements.size() * (round > 0 ? 2 : 1));
    for (TileId tile = 0; tile < elements.size(); ++tile) {
      EXPECT_TRUE(ok(check_tile(*tiles, tile, kAll, versions[tile])));
      if (round > 0) tiles->drop_kept(tile);
    }
  }
}

TEST_F(GenerationsTest, PlanesOfTheNewPlaceAreUnwrittenUntilWritten) {
  const auto tiles = store({5000, 5000}, 0.5);
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 1)));
  ASSERT_TRUE(ok(tiles->keep_generation(0)));
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 2)));
  tiles->drop_kept(0);
  // Tile 1 takes the place that tile 0 had: nothing of it may be read as tile 1's.
  ASSERT_TRUE(ok(tiles->keep_generation(1)));
  EXPECT_EQ(check_tile(*tiles, 1, kAll, 1).error().kind, ErrorKind::kInvalid);
  ASSERT_TRUE(ok(write_tile(*tiles, 1, kAll, 9)));
  EXPECT_TRUE(ok(check_tile(*tiles, 1, kAll, 9)));
  EXPECT_TRUE(ok(check_tile(*tiles, 0, kAll, 2)));
}

using GenerationsDeathTest = GenerationsTest;

TEST_F(GenerationsDeathTest, ATileUnderWayIsNeitherKeptNorDropped) {
  const auto tiles = store({5000, 5000}, 0.5);
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 1)));
  ASSERT_TRUE(ok(write_tile(*tiles, 1, kAll, 1)));
  const std::size_t bytes = tiles->layout().tile_bytes(5000);
  {
    const Transfer read = tiles->read(0, kAll, heap_lease(bytes));
    EXPECT_DEATH((void)tiles->keep_generation(0), "under way");
  }
  {
    const Transfer other = tiles->read(1, kAll, heap_lease(bytes));
    ASSERT_TRUE(tiles->keep_generation(0));
  }
  {
    const Transfer read = tiles->read(0, kAll, heap_lease(bytes));
    EXPECT_DEATH(tiles->roll_back(0), "under way");
  }
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 2)));
  {
    const Transfer read = tiles->read(0, kAll, heap_lease(bytes));
    EXPECT_DEATH(tiles->drop_kept(0), "under way");
  }
  tiles->drop_kept(0);
  EXPECT_TRUE(ok(check_tile(*tiles, 0, kAll, 2)));
}

TEST_F(GenerationsDeathTest, ACallersMistakesAreCaught) {
  const auto tiles = store({5000}, 1.0);
  ASSERT_TRUE(ok(tiles->keep_generation(0)));
  EXPECT_DEATH((void)tiles->keep_generation(0), "one generation of a tile is kept");
  EXPECT_DEATH((void)write_tile(*tiles, 0, {.first = 1, .count = 1}, 1), "covers all planes");
}

}  // namespace
}  // namespace spillway::swapper
