// Tiles that survive their store: what is saved is there with every byte, or is refused by name.
#include <spillway/swapper/tile_stream.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "saved_fixture.h"

namespace spillway::swapper {
namespace {

using testing::HasSubstr;

struct stat status_of(const std::filesystem::path& path) {
  struct stat status {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return status;
}

TEST_F(SavedTilesTest, TheySurviveTheirStore) {
  auto tiles = store();
  write_all(*tiles, 1);
  ASSERT_TRUE(ok(save_tiles(*tiles, saved_)));
  EXPECT_EQ(status_of(saved_ / "segment-00000").st_ino,
            status_of(tiles->sealed(0)->segment->path()).st_ino)
      << "a link";
  tiles.reset();
  EXPECT_TRUE(names_in(scratch_ / "swap").empty());
  EXPECT_THAT(names_in(scratch_.path()), testing::ElementsAre("saved", "swap"));
  EXPECT_THAT(names_in(saved_), testing::ElementsAre("segment-00000", "segment-00001",
                                                     "segment-00002", "spillway-tiles"));
  EXPECT_EQ(status_of(saved_).st_mode & 07777, 0700u);
  for (const std::string& name : names_in(saved_)) {
    EXPECT_EQ(status_of(saved_ / name).st_mode & 07777, 0600u) << name;
  }
  engine_ = make_engine(aio::BackendKind::kThreadPool);
  EXPECT_TRUE(has_versions(*engine_, saved_, {1, 2, 3, 4, 5, 6}));
  auto open = SavedTiles::open(*engine_, saved_);
  auto twice = SavedTiles::open(*engine_, saved_);
  ASSERT_TRUE(open && twice);
  EXPECT_EQ((*open)->tile_count(), 6u);
  EXPECT_EQ((*open)->tile_elements(3), 77u);
  EXPECT_EQ((*open)->layout().planes()[1].name, "scale");
  EXPECT_EQ((*open)->layout().planes()[1].elements_per_block, 256u);
  EXPECT_TRUE(ok(check_tile(**open, 4, {.first = 1, .count = 1}, 5))) << "one plane";
  EXPECT_TRUE(ok(check_tile(**twice, 4, kSavedPlanes, 5)));
  expect_error(write_tile(**open, 4, kSavedPlanes, 5), ErrorKind::kUnsupported, "reading only");
  EXPECT_DEATH((void)(*open)->contains(6), "no such tile");
}

TEST_F(SavedTilesTest, AStreamReadsThem) {
  save_versions(1);
  auto saved = SavedTiles::open(*engine_, saved_);
  ASSERT_TRUE(saved) << saved.error().message();
  auto pool = pinned_pool::Pool::create(
      {.buffer_bytes = kSavedLayout.tile_bytes(20'000), .buffer_count = 3});
  ASSERT_TRUE(pool);
  std::size_t seen = 0;
  const auto read = TileStream::for_each_tile(
      **saved, Access::kRead, **pool, [&](TileId tile, const PartView& part) {
        seen += holds(part.plane(0), kSavedLayout, part.elements(), kSavedPlanes, 1 + tile);
      });
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(seen, 6u);
  const auto write = TileStream::for_each_tile(**saved, Access::kReadWrite, **pool,
                                               [](TileId, const PartView&) {});
  ASSERT_FALSE(write);
  EXPECT_EQ(write.error().kind, ErrorKind::kUnsupported) << write.error().message();
}

TEST_F(SavedTilesTest, WhatIsWrittenLaterChangesNothing) {
  const auto tiles = store();
  write_all(*tiles, 1);
  ASSERT_TRUE(ok(save_tiles(*tiles, saved_)));
  for (std::uint32_t round = 1; round < 4; ++round) write_all(*tiles, 10 * round);
  EXPECT_TRUE(has_versions(*engine_, saved_, {1, 2, 3, 4, 5, 6}));
  for (TileId tile = 0; tile < 6; ++tile) {
    EXPECT_TRUE(ok(check_tile(*tiles, tile, kSavedPlanes, 30 + tile)));
  }
}

TEST_F(SavedTilesTest, ASecondSaveSharesWhatDidNotChange) {
  const auto tiles = store();
  write_all(*tiles, 1);
  const auto second = scratch_ / "second";
  const auto third = scratch_ / "third";
  ASSERT_TRUE(ok(save_tiles(*tiles, saved_)));
  ASSERT_TRUE(ok(write_tile(*tiles, 2, kSavedPlanes, 32)));
  ASSERT_TRUE(ok(write_tile(*tiles, 3, kSavedPlanes, 33)));
  tiles->free(5);
  ASSERT_TRUE(ok(save_tiles(*tiles, second)));
  ASSERT_TRUE(ok(save_tiles(*tiles, third))) << "nothing was written since";
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kSavedPlanes, 40)));
  EXPECT_TRUE(has_versions(*engine_, saved_, {1, 2, 3, 4, 5, 6}));
  EXPECT_TRUE(has_versions(*engine_, second, {1, 2, 32, 33, 5, 0}));
  EXPECT_TRUE(has_versions(*engine_, third, {1, 2, 32, 33, 5, 0}));
  EXPECT_EQ(status_of(saved_ / "segment-00000").st_ino, status_of(second / "segment-00000").st_ino);
  std::filesystem::remove_all(saved_);
  std::filesystem::remove_all(third);
  EXPECT_TRUE(has_versions(*engine_, second, {1, 2, 32, 33, 5, 0}));
}

TEST_F(SavedTilesTest, OnlySomeTiles) {
  const auto tiles = store();
  write_all(*tiles, 1);
  tiles->free(0);
  ASSERT_TRUE(ok(save_tiles(
      *tiles, saved_,
      {.tiles = {false, true, false, true, false, false}, .rewritten = std::vector<bool>(6)})));
  EXPECT_TRUE(has_versions(*engine_, saved_, {0, 2, 0, 4, 0, 0}));
  const auto read = SavedTiles::open(*engine_, saved_);
  ASSERT_TRUE(read);
  expect_error(check_tile(**read, 2, kSavedPlanes, 3), ErrorKind::kInvalid, "tile 2 was not saved");
  // The freed tile goes on, the others were said not to.
  EXPECT_EQ(tiles->why_not_writable(0, kSavedPlanes), nullptr);
  EXPECT_THAT(tiles->why_not_writable(2, kSavedPlanes), HasSubstr("not to be written again"));
}

TEST_F(SavedTilesTest, TilesWithoutAllTheirBytesAreRefused) {
  const auto tiles = store();
  ASSERT_TRUE(ok(write_tile(*tiles, 1, kSavedPlanes, 2)));
  ASSERT_TRUE(ok(write_tile(*tiles, 2, {.first = 0, .count = 1}, 2)));
  const std::vector<bool> first{true, true, false, false, false, false};
  expect_error(save_tiles(*tiles, saved_), ErrorKind::kInvalid, "tile 2 has bytes of some planes");
  expect_error(save_tiles(*tiles, saved_, {.tiles = first}), ErrorKind::kInvalid,
               "tile 0 was never written");
  EXPECT_FALSE(tiles->sealed(1)) << "nothing was sealed";
  expect_nothing_left();
  tiles->free(2);
  ASSERT_TRUE(ok(save_tiles(*tiles, saved_)));
  EXPECT_TRUE(has_versions(*engine_, saved_, {0, 2, 0, 0, 0, 0}));
}

TEST_F(SavedTilesTest, EmptyStores) {
  ASSERT_TRUE(ok(save_tiles(*store(), saved_)));
  EXPECT_TRUE(has_versions(*engine_, saved_, {0, 0, 0, 0, 0, 0}));
  auto none = TileStore::create(*engine_, kSavedLayout, {}, {.directories = {scratch_ / "swap"}});
  ASSERT_TRUE(none);
  const auto empty = scratch_ / "empty";
  ASSERT_TRUE(ok(save_tiles(**none, empty)));
  const auto saved = SavedTiles::open(*engine_, empty);
  ASSERT_TRUE(saved) << saved.error().message();
  EXPECT_EQ((*saved)->tile_count(), 0u);
}

TEST_F(SavedTilesTest, AStoreWithoutChecksumsIsRefused) {
  const auto tiles = store({.checksums = false});
  write_all(*tiles, 1);
  expect_error(save_tiles(*tiles, saved_), ErrorKind::kUnsupported, "no checksums");
  EXPECT_FALSE(tiles->sealed(1));
  expect_nothing_left();
}

TEST_F(SavedTilesTest, NothingIsReplaced) {
  const auto tiles = store();
  write_all(*tiles, 1);
  const auto refused = [&](const std::filesystem::path& path, ErrorKind kind) {
    const auto saved = save_tiles(*tiles, path);
    ASSERT_FALSE(saved) << path;
    EXPECT_EQ(saved.error().kind, kind) << saved.error().message();
  };
  std::filesystem::create_directory(scratch_ / "directory");
  std::ofstream(scratch_ / "file") << "mine";
  std::filesystem::create_symlink("nowhere", scratch_ / "link");
  for (const char* name : {"directory", "file", "link"}) {
    refused(scratch_ / name, ErrorKind::kBusy);
  }
  for (const char* path : {"", ".", "..", "/"}) refused(path, ErrorKind::kInvalid);
  refused(scratch_.path() / "swap" / ".", ErrorKind::kInvalid);
  refused(scratch_.path() / "none" / "x", ErrorKind::kNotFound);
  EXPECT_FALSE(tiles->sealed(1));
  EXPECT_THAT(names_in(scratch_.path()),
              testing::UnorderedElementsAre("directory", "file", "link", "swap"));
}

TEST_F(SavedTilesTest, PathsOfAllKinds) {
  const auto here = std::filesystem::current_path();
  std::filesystem::create_directory(scratch_ / "deep");
  const auto absolute = std::filesystem::absolute(scratch_.path());
  auto tiles = make_saved_store(*engine_, absolute / "swap");
  write_all(*tiles, 1);
  std::filesystem::current_path(absolute);
  const auto relative = save_tiles(*tiles, "deep/../saved//");
  std::filesystem::current_path("/");
  const auto versions = std::vector<std::uint32_t>{1, 2, 3, 4, 5, 6};
  EXPECT_TRUE(ok(relative));
  std::filesystem::create_symlink("saved", absolute / "link");
  EXPECT_TRUE(has_versions(*engine_, absolute / "link", versions));
  // Open and then renamed, removed, and left by a chdir.
  std::filesystem::current_path(absolute);
  auto open = SavedTiles::open(*engine_, "saved");
  std::filesystem::current_path(here);
  ASSERT_TRUE(open) << open.error().message();
  std::filesystem::rename(absolute / "saved", absolute / "deep" / "renamed");
  EXPECT_TRUE(has_versions(*engine_, absolute / "deep" / "renamed", versions));
  std::filesystem::remove_all(absolute / "deep");
  EXPECT_TRUE(ok(check_tile(**open, 5, kSavedPlanes, 6)));
}

TEST_F(SavedTilesTest, EveryDamagedBlockIsNamed) {
  save_versions(1);
  auto saved = SavedTiles::open(*engine_, saved_, {.direct = aio::Direct::kOff});
  ASSERT_TRUE(saved);
  // Tile 1 is the second one of the first segment.
  const std::uint64_t tile_at = kSavedLayout.tile_bytes(20'000);
  const std::uint64_t scale_at = tile_at + kSavedLayout.plane_offset(1, 20'000);
  struct Where {
    std::uint64_t at;
    std::string named;
  };
  for (const auto& [at, named] :
       {Where{tile_at, "tile 1, plane keys, block 0 at offset " + std::to_string(tile_at)},
        Where{tile_at + 39'999, "tile 1, plane keys, block 0"},
        Where{scale_at, "tile 1, plane scale, block 0 at offset " + std::to_string(scale_at)},
        Where{scale_at + 4 * 79 - 1, "tile 1, plane scale, block 0"}}) {
    flip_byte(saved_ / "segment-00000", at);
    const auto read = check_tile(**saved, 1, kSavedPlanes, 2);
    expect_error(read, ErrorKind::kCorrupt, named);
    EXPECT_THAT(read.error().path, HasSubstr("saved/segment-00000"));
    EXPECT_TRUE(ok(check_tile(**saved, 0, kSavedPlanes, 1)));
    flip_byte(saved_ / "segment-00000", at);
  }
  EXPECT_TRUE(ok(check_tile(**saved, 1, kSavedPlanes, 2)));
}

TEST_F(SavedTilesTest, SegmentsThatAreNotTheOnesSavedAreRefused) {
  save_versions(1);
  const auto segment = saved_ / "segment-00001";
  const auto away = scratch_ / "away";
  std::filesystem::rename(segment, away);
  expect_error(try_open(*engine_, saved_), ErrorKind::kNotFound, "saved/segment-00001");
  std::filesystem::create_symlink(away, segment);
  expect_error(try_open(*engine_, saved_), ErrorKind::kInvalid, "no regular file");
  std::filesystem::remove(segment);
  std::filesystem::copy_file(away, segment);
  EXPECT_TRUE(ok(try_open(*engine_, saved_))) << "a copy will do";
  const auto size = std::filesystem::file_size(segment);
  for (const auto other : {size - 1, size + 1, decltype(size){0}}) {
    std::filesystem::resize_file(segment, other);
    expect_error(try_open(*engine_, saved_), ErrorKind::kCorrupt, "was saved with");
  }
  std::filesystem::resize_file(segment, size);
  // The segment of another save.
  const auto tiles = store();
  write_all(*tiles, 51);
  ASSERT_TRUE(ok(save_tiles(*tiles, scratch_ / "second")));
  std::filesystem::remove(saved_ / "segment-00000");
  std::filesystem::copy_file(scratch_ / "second" / "segment-00000", saved_ / "segment-00000");
  auto saved = SavedTiles::open(*engine_, saved_);
  ASSERT_TRUE(saved) << saved.error().message();
  for (const TileId tile : {0u, 1u}) {
    expect_error(check_tile(**saved, tile, kSavedPlanes, 1), ErrorKind::kCorrupt, "segment-00000");
  }
}

TEST_F(SavedTilesTest, AManifestThatIsNotTheOneSavedIsRefused) {
  save_versions(1);
  const auto manifest = saved_ / "spillway-tiles";
  std::string text;
  {
    std::ifstream file(manifest, std::ios::binary);
    text.assign(std::istreambuf_iterator<char>(file), {});
  }
  const auto put = [&](const std::string& bytes) {
    std::ofstream(manifest, std::ios::binary | std::ios::trunc) << bytes;
  };
  for (std::size_t at = 0; at < text.size(); ++at) {
    std::string changed = text;
    changed[at] = static_cast<char>(changed[at] ^ 0x10);
    put(changed);
    const auto open = try_open(*engine_, saved_);
    ASSERT_FALSE(open) << "byte " << at;
    EXPECT_EQ(open.error().kind, at < 8                ? ErrorKind::kInvalid
                                 : at >= 12 && at < 16 ? ErrorKind::kUnsupported
                                                       : ErrorKind::kCorrupt)
        << "byte " << at << ": " << open.error().message();
  }
  for (std::size_t size = 0; size < text.size(); ++size) {
    put(text.substr(0, size));
    expect_error(try_open(*engine_, saved_), ErrorKind::kCorrupt, "manifest");
  }
  put(text + '\0');
  expect_error(try_open(*engine_, saved_), ErrorKind::kCorrupt, "says that it has");
  put("#!/bin/sh, which is another file");
  expect_error(try_open(*engine_, saved_), ErrorKind::kInvalid, "no manifest of saved tiles");
  std::filesystem::remove(manifest);
  expect_error(try_open(*engine_, saved_), ErrorKind::kNotFound, "saved/spillway-tiles");
  ASSERT_EQ(::mkfifo(manifest.c_str(), 0600), 0);
  expect_error(try_open(*engine_, saved_), ErrorKind::kInvalid, "no regular file");
  expect_error(try_open(*engine_, scratch_ / "none"), ErrorKind::kNotFound, "none");
}

// Another filesystem: tmpfs, where the machine has one.
class SavedElsewhere : public SavedTilesTest {
 protected:
  void SetUp() override {
    elsewhere_ = "/dev/shm/spillway-saved." + std::to_string(::getpid());
    std::error_code failed;
    std::filesystem::create_directory(elsewhere_, failed);
    if (failed || status_of(elsewhere_).st_dev == status_of(scratch_.path()).st_dev) {
      GTEST_SKIP() << "/dev/shm is no other filesystem";
    }
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove_all(elsewhere_, ignored);
  }
  std::filesystem::path elsewhere_;
};

TEST_F(SavedElsewhere, TheTilesAreCopied) {
  auto tiles = store();
  write_all(*tiles, 1);
  tiles->free(2);
  ASSERT_TRUE(ok(save_tiles(*tiles, elsewhere_ / "saved",
                            {.tiles = {true, true, false, true, false, false}})));
  tiles.reset();
  EXPECT_TRUE(has_versions(*engine_, elsewhere_ / "saved", {1, 2, 0, 4, 0, 0}));
  EXPECT_EQ(std::filesystem::file_size(elsewhere_ / "saved" / "segment-00001"),
            kSavedLayout.tile_bytes(77))
      << "of the second segment one tile";
  EXPECT_THAT(names_in(elsewhere_), testing::ElementsAre("saved"));
}

TEST_F(SavedElsewhere, ADamagedTileIsNotCopied) {
  const auto tiles = store({.direct = aio::Direct::kOff});
  write_all(*tiles, 1);
  const auto place = tiles->place(4);
  flip_byte(place.path, place.offset + 5);
  expect_error(save_tiles(*tiles, elsewhere_ / "saved"), ErrorKind::kCorrupt, "tile 4, plane keys");
  EXPECT_TRUE(names_in(elsewhere_).empty());
}

}  // namespace
}  // namespace spillway::swapper
