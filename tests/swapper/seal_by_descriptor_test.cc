// What a store seals, links and removes does not depend on paths that change meanwhile.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <spillway/swapper/sealed_tile.h>
#include <spillway/swapper/tile_store.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "store_fixture.h"

namespace spillway::swapper {
namespace {

const Layout kLayout({{"param", 4}, {"moment", 2}});

// Goes back when it ends.
class WorkingDirectory {
 public:
  explicit WorkingDirectory(const std::filesystem::path& path)
      : before_(std::filesystem::current_path()) {
    std::filesystem::current_path(path);
  }
  ~WorkingDirectory() { std::filesystem::current_path(before_); }

 private:
  std::filesystem::path before_;
};

class SealByDescriptor : public testing::Test {
 protected:
  SealByDescriptor() : engine_(make_engine(aio::BackendKind::kAuto)) {
    std::filesystem::create_directory(directory_ / "swap");
    std::filesystem::create_directory(directory_ / "kept");
  }
  static ino_t inode_of(const std::filesystem::path& path) {
    struct stat status {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
    return status.st_ino;
  }

  Scratch directory_;
  std::unique_ptr<aio::Engine> engine_;
};

TEST_F(SealByDescriptor, AChangeOfTheWorkingDirectoryMisleadsNoStore) {
  const std::filesystem::path root = std::filesystem::absolute(directory_.path());
  std::filesystem::create_directories(root / "elsewhere" / "swap");
  std::ofstream(root / "elsewhere" / "swap" / "spillway-tiles-0.seg") << "another's";
  std::unique_ptr<TileStore> tiles;
  {
    const WorkingDirectory here(root);
    auto made = TileStore::create(*engine_, kLayout, {5000, 5000},
                                  {.directories = {"swap"}, .segment_bytes = 1 << 17});
    ASSERT_TRUE(made) << made.error().message();
    tiles = std::move(*made);
  }
  const WorkingDirectory elsewhere(root / "elsewhere");
  for (TileId tile = 0; tile < 2; ++tile) {
    ASSERT_TRUE(ok(write_tile(*tiles, tile, kLayout.all(), tile)));
  }
  const auto sealed = tiles->seal({true, true});
  ASSERT_TRUE(sealed) << sealed.error().message();
  const auto tile = tiles->sealed(0);
  ASSERT_TRUE(tile);
  EXPECT_EQ(tile->segment->path(), (root / "swap" / "spillway-tiles-0.seg").string());
  EXPECT_EQ(tiles->directory_stats()[0].path, (root / "swap").string());
  const auto linked = tile->segment->link(AT_FDCWD, root / "kept" / "0");
  ASSERT_TRUE(linked) << linked.error().message();
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kLayout.all(), 7)));
  EXPECT_TRUE(ok(check_tile(*tiles, 0, kLayout.all(), 7)));
  tiles.reset();
  EXPECT_TRUE(std::filesystem::is_empty(root / "swap"));
  EXPECT_TRUE(std::filesystem::exists(root / "kept" / "0"));
  EXPECT_EQ(std::filesystem::file_size(root / "elsewhere" / "swap" / "spillway-tiles-0.seg"), 9u);
}

// By the descriptor, wherever the name points by now.
TEST_F(SealByDescriptor, ASegmentIsSealedAndLinkedByItsDescriptor) {
  auto made = TileStore::create(*engine_, kLayout, {5000}, {.directories = {directory_ / "swap"}});
  ASSERT_TRUE(made) << made.error().message();
  const std::unique_ptr<TileStore> tiles = std::move(*made);
  ASSERT_TRUE(ok(write_tile(*tiles, 0, kLayout.all(), 3)));
  std::filesystem::rename(directory_ / "swap", directory_ / "moved");
  const auto sealed = tiles->seal({false});
  ASSERT_TRUE(sealed) << sealed.error().message();
  const auto tile = tiles->sealed(0);
  ASSERT_TRUE(tile);
  const std::filesystem::path link = directory_ / "kept" / "0";
  const auto linked = tile->segment->link(AT_FDCWD, link);
  ASSERT_TRUE(linked) << linked.error().message();
  EXPECT_EQ(inode_of(link), inode_of(directory_ / "moved" / "spillway-tiles-0.seg"));
  EXPECT_TRUE(ok(check_tile(*tiles, 0, kLayout.all(), 3)));
  const auto twice = tile->segment->link(AT_FDCWD, link);
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().errno_value, EEXIST);
  EXPECT_EQ(twice.error().kind, ErrorKind::kBusy);
  const auto across =
      tile->segment->link(AT_FDCWD, "/dev/shm/spillway-test-" + std::to_string(::getpid()));
  ASSERT_FALSE(across);
  EXPECT_EQ(across.error().kind, ErrorKind::kUnsupported) << across.error().message();
  std::filesystem::rename(directory_ / "moved", directory_ / "swap");
}

}  // namespace
}  // namespace spillway::swapper
