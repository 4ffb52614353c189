// A freed tile: its bytes are forgotten, its space is the filesystem's until it is written again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/swapper/tile_store.h>
#include <spillway/swapper/tile_stream.h>
#include <sys/stat.h>

#include <thread>

#include "store_fixture.h"
#include "support/seed.h"

namespace spillway::swapper {
namespace {

using testing::HasSubstr;

const Layout kLayout({{"param_hi", 2}, {"param_lo", 2}});
constexpr PlaneRange kAll{.first = 0, .count = 2};
constexpr std::uint64_t kElements = 20'000;

class FreeTest : public testing::Test {
 protected:
  FreeTest() : engine_(make_engine(aio::BackendKind::kAuto)) {
    std::filesystem::create_directory(directory_ / "swap");
  }
  std::unique_ptr<TileStore> store(std::size_t tiles, double spare = 0) {
    auto created = TileStore::create(
        *engine_, kLayout, std::vector(tiles, kElements),
        {.directories = {directory_ / "swap"}, .segment_bytes = 1 << 18, .spare_fraction = spare});
    EXPECT_TRUE(created) << created.error().message();
    return std::move(*created);
  }
  // What the segment files take of the disk.
  std::uint64_t taken_bytes() const {
    std::uint64_t bytes = 0;
    for (const std::string& name : names_in(directory_ / "swap")) {
      struct stat status {};
      if (!name.ends_with(".seg")) continue;
      EXPECT_EQ(::stat((directory_ / "swap" / name).c_str(), &status), 0);
      bytes += std::uint64_t(status.st_blocks) * 512;
    }
    return bytes;
  }
  static ErrorKind kind_of_read(TileStore& store, TileId tile) {
    const auto read = check_tile(store, tile, kAll, 0);
    return read ? ErrorKind::kBusy : read.error().kind;
  }
  static std::vector<bool> all(const Tier& tier) {
    return std::vector<bool>(tier.tile_count(), true);
  }

  static constexpr std::uint64_t kTile = 81'920;  // bytes: 2 planes of 40,000, padded
  Scratch directory_;
  std::unique_ptr<aio::Engine> engine_;
};

TEST_F(FreeTest, ItsSpaceIsTheFilesystemsUntilItIsWrittenAgain) {
  const auto tiles = store(6);
  for (TileId tile = 0; tile < 6; ++tile) ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, tile)));
  ASSERT_EQ(tiles->storage_bytes(), 6 * kTile);
  const std::uint64_t before = taken_bytes();
  for (const TileId tile : {1u, 2u, 5u}) {
    EXPECT_EQ(tiles->contents(tile), TileStore::Contents::kAllPlanes);
    tiles->free(tile);
    EXPECT_EQ(tiles->contents(tile), TileStore::Contents::kNone);
    EXPECT_EQ(kind_of_read(*tiles, tile), ErrorKind::kInvalid);
  }
  EXPECT_EQ(tiles->storage_bytes(), 3 * kTile);
  EXPECT_EQ(tiles->directory_stats()[0].stored_bytes, 3 * kTile);
  EXPECT_LE(taken_bytes(), before - 3 * kTile);
  tiles->free(5);
  EXPECT_EQ(tiles->storage_bytes(), 3 * kTile) << "once";
  for (const TileId tile : {0u, 3u, 4u}) EXPECT_TRUE(ok(check_tile(*tiles, tile, kAll, tile)));

  // One plane takes the space of all of them.
  ASSERT_TRUE(ok(write_tile(*tiles, 1, {.first = 1, .count = 1}, 7)));
  EXPECT_EQ(tiles->contents(1), TileStore::Contents::kSomePlanes);
  EXPECT_EQ(tiles->storage_bytes(), 4 * kTile);
  EXPECT_TRUE(ok(check_tile(*tiles, 1, {.first = 1, .count = 1}, 7)));
  EXPECT_EQ(kind_of_read(*tiles, 1), ErrorKind::kInvalid);
  ASSERT_TRUE(ok(write_tile(*tiles, 1, {.first = 0, .count = 1}, 7)));
  EXPECT_TRUE(ok(check_tile(*tiles, 1, kAll, 7)));
  EXPECT_LE(taken_bytes(), before - 2 * kTile);
}

TEST_F(FreeTest, OldBytesDoNotComeBackWithAnOldGeneration) {
  const auto tiles = store(1);
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 1)));
  const std::uint32_t first = tiles->generation(0);
  tiles->free(0);
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 1)));
  EXPECT_GT(tiles->generation(0), first);
}

TEST_F(FreeTest, AStreamTakesTheSpaceToo) {
  const auto tiles = store(4);
  auto pool = pinned_pool::Pool::create({.buffer_bytes = kTile, .buffer_count = 3});
  ASSERT_TRUE(pool);
  const auto write = [](TileId tile, const PartView& planes) {
    fill(planes.plane(0), kLayout, kElements, kAll, tile);
  };
  ASSERT_TRUE(TileStream::for_each_tile(*tiles, Access::kWrite, **pool, write));
  tiles->free(0);
  tiles->free(3);
  const auto read =
      TileStream::for_each_tile(*tiles, Access::kRead, **pool, [](TileId, const PartView&) {});
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kInvalid);
  ASSERT_TRUE(TileStream::for_each_tile(*tiles, Access::kWrite, **pool, write));
  EXPECT_EQ(tiles->storage_bytes(), 4 * kTile);
  for (TileId tile = 0; tile < 4; ++tile) EXPECT_TRUE(ok(check_tile(*tiles, tile, kAll, tile)));
}

TEST_F(FreeTest, ASealedFileStaysAndGoesWithItsLastTile) {
  const auto tiles = store(3);  // one segment
  for (TileId tile = 0; tile < 3; ++tile) ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, tile)));
  ASSERT_TRUE(ok(tiles->seal(std::vector<bool>(3, false))));
  const std::filesystem::path sealed = tiles->sealed(0)->segment->path();
  const std::filesystem::path link = directory_ / "link";
  std::filesystem::create_hard_link(sealed, link);
  tiles->free(0);
  tiles->free(2);
  EXPECT_EQ(tiles->contents(0), TileStore::Contents::kNone);
  EXPECT_FALSE(tiles->sealed(0));
  EXPECT_EQ(kind_of_read(*tiles, 0), ErrorKind::kInvalid);
  EXPECT_EQ(tiles->storage_bytes(), 3 * kTile) << "the file is left as it is";
  EXPECT_TRUE(std::filesystem::exists(sealed));
  EXPECT_TRUE(ok(check_tile(*tiles, 1, kAll, 1)));
  tiles->free(1);
  EXPECT_FALSE(std::filesystem::exists(sealed));
  EXPECT_EQ(tiles->storage_bytes(), 0u);
  EXPECT_EQ(kind_of_read(*tiles, 1), ErrorKind::kInvalid);
  EXPECT_THAT(tiles->why_not_writable(0, kAll), HasSubstr("not to be written again"));
  EXPECT_DEATH((void)write_tile(*tiles, 0, kAll, 1), "not to be written again");
  for (TileId tile = 0; tile < 3; ++tile) {
    std::vector<std::byte> bytes(kTile);
    std::ifstream file(link, std::ios::binary);
    file.seekg(std::streamoff(tile * kTile)).read(reinterpret_cast<char*>(bytes.data()), kTile);
    EXPECT_TRUE(holds(bytes.data(), kLayout, kElements, kAll, tile)) << "the link's bytes stay";
  }
  // The next seal says that they are written after all. They take space when they are.
  ASSERT_TRUE(ok(tiles->seal(all(*tiles))));
  EXPECT_EQ(tiles->storage_bytes(), 0u);
  EXPECT_EQ(taken_bytes(), 0u);
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 30)));
  EXPECT_TRUE(ok(check_tile(*tiles, 0, kAll, 30)));
  EXPECT_EQ(tiles->storage_bytes(), kTile);
}

TEST_F(FreeTest, ASealedFileGoesWhicheverWayItsTilesLeft) {
  const auto tiles = store(3, 1);
  for (TileId tile = 0; tile < 3; ++tile) ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, tile)));
  ASSERT_TRUE(ok(tiles->seal(all(*tiles))));
  const std::filesystem::path sealed = tiles->sealed(0)->segment->path();
  ASSERT_EQ(tiles->sealed(2)->segment->path(), sealed);
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 10)));
  ASSERT_TRUE(ok(tiles->keep_generation(1)));
  ASSERT_TRUE(ok(write_tile(*tiles, 1, kAll, 11)));
  tiles->drop_kept(1);
  EXPECT_TRUE(std::filesystem::exists(sealed));
  tiles->free(2);
  EXPECT_FALSE(std::filesystem::exists(sealed));
  for (TileId tile = 0; tile < 2; ++tile)
    EXPECT_TRUE(ok(check_tile(*tiles, tile, kAll, 10 + tile)));
}

TEST_F(FreeTest, ASealedFileWhoseLastTileWasWrittenGoesWithTheNextSeal) {
  const auto tiles = store(2);
  for (TileId tile = 0; tile < 2; ++tile) ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, tile)));
  ASSERT_TRUE(ok(tiles->seal({false, true})));
  const std::filesystem::path sealed = tiles->sealed(0)->segment->path();
  tiles->free(0);
  ASSERT_TRUE(ok(write_tile(*tiles, 1, kAll, 11)));
  ASSERT_TRUE(ok(tiles->seal(all(*tiles))));
  EXPECT_FALSE(std::filesystem::exists(sealed));
  EXPECT_EQ(tiles->storage_bytes(), 2 * kTile) << "the sealed tile, and its place to be written";
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 20)));
  EXPECT_TRUE(ok(check_tile(*tiles, 0, kAll, 20)));
  EXPECT_TRUE(ok(check_tile(*tiles, 1, kAll, 11)));
}

TEST_F(FreeTest, ASealedTileGivesItsReservedSpaceBackToo) {
  const auto tiles = store(3);
  for (TileId tile = 0; tile < 3; ++tile) ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, tile)));
  ASSERT_TRUE(ok(tiles->seal(all(*tiles))));
  ASSERT_EQ(tiles->storage_bytes(), 6 * kTile);
  tiles->free(1);
  EXPECT_EQ(tiles->storage_bytes(), 5 * kTile);
  ASSERT_TRUE(ok(write_tile(*tiles, 1, kAll, 41)));
  EXPECT_EQ(tiles->storage_bytes(), 6 * kTile);
  EXPECT_TRUE(ok(check_tile(*tiles, 1, kAll, 41)));
  EXPECT_TRUE(ok(check_tile(*tiles, 0, kAll, 0)));
  EXPECT_TRUE(tiles->sealed(2));
}

TEST_F(FreeTest, ASealAsksNoRoomForFreedTiles) {
  const auto tiles = store(6);  // in two segments
  for (TileId tile = 0; tile < 6; ++tile) ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, tile)));
  for (const TileId tile : {0u, 1u, 4u}) tiles->free(tile);
  ASSERT_TRUE(ok(tiles->seal(std::vector<bool>(6, false))));
  EXPECT_EQ(tiles->storage_bytes(), 3 * kTile);
  EXPECT_LE(taken_bytes(), 3 * kTile + (16 << 10));
  for (const TileId tile : {2u, 3u, 5u}) EXPECT_TRUE(ok(check_tile(*tiles, tile, kAll, tile)));
  // Nothing sealed held them, so they may be written.
  for (const TileId tile : {0u, 1u, 4u}) {
    EXPECT_EQ(kind_of_read(*tiles, tile), ErrorKind::kInvalid);
    ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, 50 + tile)));
    EXPECT_TRUE(ok(check_tile(*tiles, tile, kAll, 50 + tile)));
  }
  EXPECT_EQ(tiles->storage_bytes(), 6 * kTile);
}

TEST_F(FreeTest, AFreedTileCanKeepAGenerationWithItsSpace) {
  const auto tiles = store(2, 1);
  for (TileId tile = 0; tile < 2; ++tile) ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, tile)));
  tiles->free(0);
  ASSERT_TRUE(ok(tiles->keep_generation(0)));
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 5)));
  tiles->drop_kept(0);
  EXPECT_TRUE(ok(check_tile(*tiles, 0, kAll, 5)));
  EXPECT_EQ(tiles->storage_bytes(), 4 * kTile) << "spare places have their space";
}

TEST_F(FreeTest, MisuseEndsTheProgram) {
  const auto tiles = store(1, 1);
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kAll, 0)));
  ASSERT_TRUE(ok(tiles->keep_generation(0)));
  EXPECT_DEATH(tiles->free(0), "nothing is kept");
  tiles->roll_back(0);
  EXPECT_DEATH(tiles->free(1), "no such tile");
  Transfer read = tiles->read(0, kAll, heap_lease(kTile));
  EXPECT_TRUE(tiles->in_flight(0));
  EXPECT_DEATH(tiles->free(0), "under way");
  ASSERT_TRUE(read.wait());
  EXPECT_FALSE(tiles->in_flight(0));
  tiles->free(0);
}

// Frees beside transfers of other tiles: what tsan looks at.
TEST_F(FreeTest, OtherTilesGoOnMeanwhile) {
  const auto tiles = store(8);
  for (TileId tile = 0; tile < 8; ++tile) ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, tile)));
  ASSERT_TRUE(ok(tiles->seal(all(*tiles))));
  std::vector<std::thread> threads;
  for (TileId mine = 0; mine < 8; ++mine) {
    threads.emplace_back([&tiles, mine] {
      for (std::uint32_t round = 1; round < 20; ++round) {
        if ((round + mine) % 3 == 0) tiles->free(mine);
        EXPECT_TRUE(ok(write_tile(*tiles, mine, kAll, round * 10 + mine)));
        EXPECT_TRUE(ok(check_tile(*tiles, mine, kAll, round * 10 + mine)));
        EXPECT_GT(tiles->storage_bytes(), 0u);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Any order of writes, frees, kept generations and seals against a model.
TEST_F(FreeTest, RandomUseAgainstAModel) {
  const std::uint64_t seed = test_seed(13);
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 draw(seed);
  constexpr TileId kTiles = 9;
  const auto tiles = store(kTiles, 0.4);
  std::vector<std::uint32_t> version(kTiles), kept(kTiles);  // 0: none
  std::vector<bool> keeps(kTiles);
  std::uint32_t last = 0;
  for (int round = 0; round < 600; ++round) {
    const TileId tile = TileId(draw() % kTiles);
    const auto settle = [&](TileId which) {
      if (!keeps[which]) return;
      if (draw() % 2 == 0) {
        tiles->drop_kept(which);
      } else {
        tiles->roll_back(which);
        version[which] = kept[which];
      }
      keeps[which] = false;
    };
    switch (draw() % 16) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
      case 5:
        if (tiles->why_not_writable(tile, kAll) != nullptr) break;
        ASSERT_TRUE(ok(write_tile(*tiles, tile, kAll, version[tile] = ++last)));
        break;
      case 6:
      case 7:
        if (!keeps[tile] && tiles->keep_generation(tile)) {
          keeps[tile] = true;
          kept[tile] = version[tile];
        }
        break;
      case 8:
      case 9:
        settle(tile);
        break;
      case 10:
      case 11:
      case 12:
      case 13:
        if (keeps[tile]) break;
        tiles->free(tile);
        version[tile] = 0;
        break;
      default:
        for (TileId each = 0; each < kTiles; ++each) settle(each);
        std::vector<bool> rewritten(kTiles);
        for (TileId each = 0; each < kTiles; ++each) rewritten[each] = draw() % 4 != 0;
        ASSERT_TRUE(ok(tiles->seal(rewritten)));
    }
    for (TileId each = 0; each < kTiles; ++each) {
      if (version[each] == 0) {
        ASSERT_EQ(kind_of_read(*tiles, each), ErrorKind::kInvalid) << "round " << round;
      } else {
        ASSERT_TRUE(ok(check_tile(*tiles, each, kAll, version[each]))) << "round " << round;
      }
    }
    ASSERT_LE(taken_bytes(), tiles->storage_bytes() + (64 << 10)) << "round " << round;
  }
}

}  // namespace
}  // namespace spillway::swapper
