#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/swapper/tile_store.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "store_fixture.h"

namespace spillway::swapper {
namespace {

using pinned_pool::Lease;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAre;

const Layout kThreePlanes({{"param_lo", 2}, {"exp_avg", 4}, {"exp_avg_sq", 4}});

class TileStoreTest : public testing::Test {
 protected:
  TileStoreTest() : engine_(make_engine(aio::BackendKind::kAuto)) {}

  Result<std::unique_ptr<TileStore>> create(const std::vector<std::uint64_t>& elements,
                                            TileStoreOptions options = {},
                                            const Layout& layout = kThreePlanes) {
    if (options.directories.empty()) options.directories = {directory_.path()};
    return TileStore::create(*engine_, layout, elements, options);
  }
  std::unique_ptr<TileStore> store(const std::vector<std::uint64_t>& elements,
                                   TileStoreOptions options = {},
                                   const Layout& layout = kThreePlanes) {
    auto created = create(elements, std::move(options), layout);
    EXPECT_TRUE(created) << created.error().message();
    return std::move(*created);
  }

  Scratch directory_;
  std::unique_ptr<aio::Engine> engine_;
};

TEST_F(TileStoreTest, KeepsTilesOfEveryLayoutAndSize) {
  const std::map<std::string, Layout> layouts{{"one", Layout({{"param", 2}})},
                                              {"three", kThreePlanes},
                                              {"six", Layout({{"param_hi", 2},
                                                              {"param_lo", 2},
                                                              {"exp_avg", 1},
                                                              {"exp_avg_scale", 4, 256},
                                                              {"exp_avg_sq", 1},
                                                              {"exp_avg_sq_scale", 4, 256}})}};
  // Less than a page, uneven tails, several checksum blocks, more than a segment.
  const std::vector<std::uint64_t> elements{1, 100, 4096, 5000, 300'001, 1'500'000, 257};
  for (const auto& [name, layout] : layouts) {
    const auto tiles = store(elements, {.segment_bytes = 1 << 20}, layout);
    for (TileId tile = 0; tile < tiles->tile_count(); ++tile) {
      EXPECT_TRUE(ok(write_tile(*tiles, tile, layout.all(), tile))) << name;
    }
    for (TileId tile = tiles->tile_count(); tile-- > 0;) {
      EXPECT_TRUE(ok(check_tile(*tiles, tile, layout.all(), tile))) << name << " tile " << tile;
    }
  }
}

TEST_F(TileStoreTest, MovesRunsOfNeighbouringPlanes) {
  const auto tiles = store({5000, 5000});
  ASSERT_TRUE(ok(write_tile(*tiles, 1, {.first = 0, .count = 3}, 1)));
  ASSERT_TRUE(ok(write_tile(*tiles, 1, {.first = 1, .count = 1}, 2)));
  EXPECT_TRUE(ok(check_tile(*tiles, 1, {.first = 0, .count = 1}, 1)));
  EXPECT_TRUE(ok(check_tile(*tiles, 1, {.first = 1, .count = 1}, 2)));
  EXPECT_TRUE(ok(check_tile(*tiles, 1, {.first = 2, .count = 1}, 1)));
  ASSERT_TRUE(ok(write_tile(*tiles, 1, {.first = 1, .count = 2}, 3)));
  EXPECT_TRUE(ok(check_tile(*tiles, 1, {.first = 1, .count = 2}, 3)));
  EXPECT_TRUE(ok(check_tile(*tiles, 1, {.first = 0, .count = 1}, 1)));
}

TEST_F(TileStoreTest, APlaneThatWasNeverWrittenIsNamed) {
  const auto tiles = store({5000, 5000});
  ASSERT_TRUE(ok(write_tile(*tiles, 1, {.first = 0, .count = 2}, 1)));
  const auto read = check_tile(*tiles, 1, {.first = 1, .count = 2}, 1);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(read.error().message(), HasSubstr("tile 1, plane exp_avg_sq: was never written"));
}

TEST_F(TileStoreTest, CountsBytesOfTheMediumPaddingIncluded) {
  const auto tiles = store({5000, 100});
  EXPECT_EQ(tiles->storage_bytes(), (12288u + 20480 + 20480) + 3 * 4096);
  EXPECT_GT(tiles->memory_bytes(), 0u);
  ASSERT_TRUE(ok(write_tile(*tiles, 0, {.first = 0, .count = 3}, 1)));
  ASSERT_TRUE(ok(check_tile(*tiles, 0, {.first = 1, .count = 1}, 1)));
  EXPECT_EQ(tiles->stats().written_bytes, 53248u);
  EXPECT_EQ(tiles->stats().read_bytes, 20480u);
}

TEST_F(TileStoreTest, PaddingIsWrittenAsZeros) {
  const auto tiles = store({100});
  ASSERT_TRUE(
      ok(write_tile(*tiles, 0, {.first = 0, .count = 3}, 1)));  // the fixture's padding is 0xee
  std::ifstream file(tiles->place(0).path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  ASSERT_EQ(bytes.size(), 3u * 4096);
  EXPECT_EQ(std::count(bytes.begin() + 200, bytes.begin() + 4096, 0), 4096 - 200);
  EXPECT_EQ(std::count(bytes.begin() + 4096 + 400, bytes.begin() + 8192, 0), 4096 - 400);
  EXPECT_EQ(std::count(bytes.begin() + 8192 + 400, bytes.end(), 0), 4096 - 400);
}

TEST_F(TileStoreTest, NamesItsFilesAndRemovesThem) {
  std::ofstream(directory_ / "notes.txt") << "mine";
  auto tiles = store({5000, 5000, 5000}, {.name = "optimizer", .segment_bytes = 100'000});
  EXPECT_THAT(names_in(directory_.path()),
              UnorderedElementsAre("notes.txt", "spillway.lock", "spillway-optimizer-0.seg",
                                   "spillway-optimizer-1.seg"));
  EXPECT_EQ(tiles->place(2).path, (directory_ / "spillway-optimizer-1.seg").string());
  EXPECT_EQ(tiles->place(1).offset, kThreePlanes.tile_bytes(5000));
  tiles.reset();
  EXPECT_THAT(names_in(directory_.path()), ElementsAre("notes.txt"));
}

// They hold the states of a model: nobody else reads them, whatever the umask.
TEST_F(TileStoreTest, ItsFilesAreItsOwnersAlone) {
  const mode_t before = ::umask(0);
  const auto tiles = store({5000, 5000, 5000}, {.segment_bytes = 100'000});
  ::umask(before);
  for (const std::string& name : names_in(directory_.path())) {
    struct stat status {};
    ASSERT_EQ(::stat((directory_ / name).c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u) << name;
  }
}

TEST_F(TileStoreTest, StripesOverDirectories) {
  const Scratch second;
  auto tiles = store({5000, 5000, 5000, 5000}, {.directories = {directory_.path(), second.path()}});
  for (TileId tile = 0; tile < 4; ++tile) {
    const auto& where = tile % 2 == 0 ? directory_ : second;
    EXPECT_EQ(std::filesystem::path(tiles->place(tile).path).parent_path(), where.path());
    EXPECT_TRUE(ok(write_tile(*tiles, tile, {.first = 0, .count = 3}, tile)));
  }
  for (TileId tile = 0; tile < 4; ++tile)
    EXPECT_TRUE(ok(check_tile(*tiles, tile, {.first = 0, .count = 3}, tile)));
  tiles.reset();
  EXPECT_THAT(names_in(directory_.path()), IsEmpty());
  EXPECT_THAT(names_in(second.path()), IsEmpty());
}

TEST_F(TileStoreTest, ASecondStoreNeedsTheFirstOnesLock) {
  auto first = store({5000}, {.name = "a"});
  const auto refused = create({5000}, {.name = "b"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kBusy);
  first.reset();

  const auto lock = DirectoryLock::acquire(directory_.path());
  ASSERT_TRUE(lock);
  first = store({5000}, {.locks = {*lock}, .name = "a"});
  auto second = store({5000}, {.locks = {*lock}, .name = "b"});
  const auto same_name = create({5000}, {.locks = {*lock}, .name = "a"});
  ASSERT_FALSE(same_name);
  EXPECT_EQ(same_name.error().kind, ErrorKind::kBusy);
  EXPECT_THAT(same_name.error().message(), HasSubstr("give each a `name` of its own"));
  // The first store's file is still on the list of what a next job has to remove.
  std::ifstream list(directory_ / "spillway.lock");
  EXPECT_THAT(std::string(std::istreambuf_iterator<char>(list), {}),
              Not(HasSubstr("-spillway-a-0.seg")));
  ASSERT_TRUE(ok(write_tile(*first, 0, {.first = 0, .count = 3}, 1)));
  ASSERT_TRUE(ok(write_tile(*second, 0, {.first = 0, .count = 3}, 2)));
  second.reset();
  EXPECT_THAT(names_in(directory_.path()),
              UnorderedElementsAre("spillway-a-0.seg", "spillway.lock"));
  EXPECT_TRUE(ok(check_tile(*first, 0, {.first = 0, .count = 3}, 1)));
}

TEST_F(TileStoreTest, StoresShareTheLockOfADirectoryUnderNamesOfTheirOwn) {
  auto first = store({5000}, {.share_locks = true, .name = "a"});
  auto second = store({5000}, {.share_locks = true, .name = "b"});
  const auto same_name = create({5000}, {.share_locks = true, .name = "a"});
  ASSERT_FALSE(same_name);
  EXPECT_EQ(same_name.error().kind, ErrorKind::kBusy);
  EXPECT_THAT(same_name.error().message(), HasSubstr("another store of this process has the name"));
  EXPECT_FALSE(create({5000}, {.name = "c"})) << "one that does not share";
  ASSERT_TRUE(ok(write_tile(*first, 0, {.first = 0, .count = 3}, 1)));
  ASSERT_TRUE(ok(write_tile(*second, 0, {.first = 0, .count = 3}, 2)));
  first.reset();
  EXPECT_TRUE(ok(check_tile(*second, 0, {.first = 0, .count = 3}, 2)));
  first = store({5000}, {.share_locks = true, .name = "a"});
  first.reset();
  second.reset();
  EXPECT_THAT(names_in(directory_.path()), IsEmpty());
}

// Its first segments are gone: only the name tells that its next ones would meet another store's.
TEST_F(TileStoreTest, TheNameOfAStoreIsTakenWhateverFilesItHas) {
  const auto lock = DirectoryLock::acquire(directory_.path());
  ASSERT_TRUE(lock);
  auto first = store({5000}, {.locks = {*lock}, .name = "a"});
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(ok(write_tile(*first, 0, {.first = 0, .count = 3}, 1)));
    ASSERT_TRUE(first->seal({true}));
  }
  EXPECT_FALSE(std::filesystem::exists(directory_ / "spillway-a-0.seg"));
  EXPECT_FALSE(create({5000}, {.locks = {*lock}, .name = "a"}));
  first.reset();
  EXPECT_TRUE(create({5000}, {.locks = {*lock}, .name = "a"}));
}

TEST_F(TileStoreTest, AUsersFileOfASegmentsNameIsLeftAlone) {
  std::ofstream(directory_ / "spillway-tiles-1.seg") << "mine";
  const auto refused = create({5000, 5000, 5000}, {.segment_bytes = 4096});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kBusy);
  EXPECT_THAT(refused.error().message(), HasSubstr("spillway-tiles-1.seg"));
  EXPECT_THAT(names_in(directory_.path()), ElementsAre("spillway-tiles-1.seg"));
  std::ifstream file(directory_ / "spillway-tiles-1.seg");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "mine");
}

TEST_F(TileStoreTest, TooManyBytesAreRefusedBeforeOneIsWritten) {
  const auto refused = create({1000, std::uint64_t{1} << 50});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kNoSpace);
  EXPECT_THAT(refused.error().message(), HasSubstr("2 tiles take 10"));
  EXPECT_THAT(refused.error().message(), HasSubstr("short"));
  EXPECT_THAT(names_in(directory_.path()), IsEmpty());
}

TEST_F(TileStoreTest, OptionsThatMakeNoSenseAreNamed) {
  const auto refusal = [&](const TileStoreOptions& options) {
    const auto refused = TileStore::create(*engine_, kThreePlanes, {1}, options);
    EXPECT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
    return refused.error().message();
  };
  TileStoreOptions options;
  EXPECT_THAT(refusal(options), HasSubstr("directories"));
  options.directories = {directory_.path()};
  options.segment_bytes = 0;
  EXPECT_THAT(refusal(options), HasSubstr("segment_bytes"));
  options.segment_bytes = 4096;
  options.spare_fraction = 1.5;
  EXPECT_THAT(refusal(options), HasSubstr("spare_fraction"));
  options.spare_fraction = 0;
  options.name = "a/b";
  EXPECT_THAT(refusal(options), HasSubstr("name"));
  const auto missing = create({1}, {.directories = {directory_ / "missing"}});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::kNotFound);
}

TEST_F(TileStoreTest, NoTilesAreAStoreToo) {
  const auto tiles = store({});
  EXPECT_EQ(tiles->tile_count(), 0u);
  EXPECT_EQ(tiles->storage_bytes(), 0u);
}

TEST_F(TileStoreTest, DroppedTransfersAndTransfersThatOutliveTheStoreAreSafe) {
  constexpr std::uint64_t kElements = 1'000'000;
  const std::size_t bytes = kThreePlanes.tile_bytes(kElements);
  auto tiles = store({kElements, kElements});
  for (int round = 0; round < 5; ++round) {
    Lease lease = heap_lease(bytes);
    fill(lease.data(), kThreePlanes, kElements, {.first = 0, .count = 3}, 7);
    Transfer dropped = tiles->write(0, {.first = 0, .count = 3}, std::move(lease));
  }
  ASSERT_TRUE(ok(write_tile(*tiles, 1, {.first = 0, .count = 3}, 7)));
  Transfer late = tiles->read(1, {.first = 0, .count = 3}, heap_lease(bytes));
  tiles.reset();
  EXPECT_THAT(names_in(directory_.path()), IsEmpty());
  const auto read = late.wait();
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_TRUE(holds(read->data(), kThreePlanes, kElements, {.first = 0, .count = 3}, 7));
}

using TileStoreDeathTest = TileStoreTest;

TEST_F(TileStoreDeathTest, ACallersMistakesAreCaught) {
  const auto tiles = store({5000});
  EXPECT_DEATH((void)tiles->read(1, {.first = 0, .count = 3}, heap_lease(1 << 20)), "no such tile");
  EXPECT_DEATH((void)tiles->read(0, {.first = 0, .count = 3}, heap_lease(4096)),
               "exceed the buffer");
  EXPECT_DEATH((void)tiles->write(0, {.first = 2, .count = 2}, heap_lease(1 << 20)),
               "exceeds the planes");
  EXPECT_DEATH((void)tiles->write(0, {.first = 0, .count = 0}, heap_lease(1 << 20)),
               "at least one plane");
  EXPECT_DEATH((void)tiles->tile_elements(1), "no such tile");
  EXPECT_DEATH((void)store({5000, 0}), "at least one element");
  EXPECT_DEATH(tiles->roll_back(0), "no generation");
  EXPECT_DEATH(tiles->drop_kept(0), "no generation");
}

}  // namespace
}  // namespace spillway::swapper
