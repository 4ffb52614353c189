// Rows 15, 21 and 22 of the fault list at the tiles, on a disk of the test's own: one that loses
// blocks, one that is slow, one that nobody may write. Needs root.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/pinned_pool/limits.h>
#include <spillway/swapper/saved_tiles.h>
#include <spillway/swapper/tile_store.h>
#include <spillway/swapper/tile_stream.h>
#include <sys/mount.h>
#include <unistd.h>

#include <chrono>
#include <fstream>

#include "support/blkio_throttle.h"
#include "support/loop_filesystem.h"
#include "swapper/store_fixture.h"

namespace spillway::swapper {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint32_t kTiles = 16;
constexpr std::uint64_t kElements = 100'000;  // 1 MB a tile
constexpr std::size_t kBuffers = 3;

class SwapperOnDisk : public testing::TestWithParam<aio::BackendKind> {
 protected:
  void SetUp() override {
    if (!disk_.why_not().empty()) GTEST_SKIP() << disk_.why_not();
    engine_ = make_engine(GetParam());
    if (engine_ == nullptr) GTEST_SKIP() << "no such backend on this machine";
    auto pool = pinned_pool::Pool::create({.buffer_bytes = layout_.tile_bytes(kElements),
                                           .buffer_count = kBuffers,
                                           .lock = pinned_pool::Policy::kOff});
    ASSERT_TRUE(pool) << pool.error().message();
    pool_ = std::move(*pool);
  }

  void open_store() {
    auto store = TileStore::create(*engine_, layout_, std::vector(kTiles, kElements),
                                   {.directories = {disk_.mount_point()}});
    ASSERT_TRUE(store) << store.error().message();
    store_ = std::move(*store);
  }

  // Gives tile t the version `first + t`, from memory of the pool.
  Result<StreamStats> write_all(std::uint32_t first) {
    return TileStream::for_each_tile(
        *store_, Access::kWrite, *pool_, [&](TileId tile, const PartView& planes) {
          fill(planes.plane(0), layout_, kElements, layout_.all(), first + tile);
        });
  }
  // How many tiles were right before the first failure, if there was one.
  Result<StreamStats> check_all(std::uint32_t first, std::uint32_t& right) {
    right = 0;
    return TileStream::for_each_tile(
        *store_, Access::kRead, *pool_, [&](TileId tile, const PartView& planes) {
          EXPECT_TRUE(holds(planes.plane(0), layout_, kElements, layout_.all(), first + tile));
          ++right;
        });
  }

  const Layout layout_{{{"param_lo", 2}, {"exp_avg", 4}, {"exp_avg_sq", 4}}};
  LoopFilesystem disk_{40 * kMiB};
  std::unique_ptr<aio::Engine> engine_;
  std::unique_ptr<pinned_pool::Pool> pool_;
  std::unique_ptr<TileStore> store_;
};

// Row 15. The buffers held the right bytes a moment ago: none of them is taken for what was read.
TEST_P(SwapperOnDisk, ATileThatCannotBeReadIsAnErrorWithItsNameAndNothingStaleIsUsed) {
  ASSERT_NO_FATAL_FAILURE(open_store());
  ASSERT_TRUE(write_all(100));
  ::sync();
  ASSERT_EQ(::truncate(disk_.image().c_str(), static_cast<off_t>(14 * kMiB)), 0);
  std::uint32_t right = 0;
  const auto read = check_all(100, right);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kIo) << read.error().message();
  EXPECT_EQ(read.error().errno_value, EIO);
  EXPECT_THAT(read.error().message(), HasSubstr("tile " + std::to_string(right) + ", plane "));
  EXPECT_THAT(read.error().message(), HasSubstr(store_->place(right).path));
  EXPECT_LT(right, kTiles);
  EXPECT_EQ(pool_->available(), kBuffers);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kGrowthBytes = 64 * kMiB;  // a sanitizer keeps memory of its own
#else
constexpr std::uint64_t kGrowthBytes = 4 * kMiB;
#endif

// Row 21. Some fifty times slower than a disk of 1 GB/s: 16 MB take a second at least.
TEST_P(SwapperOnDisk, ASlowDiskIsSlowerCorrectAndCostsNoMemory) {
  ASSERT_NO_FATAL_FAILURE(open_store());
  ASSERT_TRUE(write_all(100));
  const BlkioThrottle throttle(disk_.mount_point(), 20'000'000);
  if (!throttle.why_not().empty()) GTEST_SKIP() << throttle.why_not();
  const auto before = pinned_pool::memory_usage();
  const auto start = std::chrono::steady_clock::now();
  std::uint32_t right = 0;
  const auto read = check_all(100, right);
  ASSERT_TRUE(read) << read.error().message();
  const auto reading = std::chrono::steady_clock::now() - start;
  ASSERT_TRUE(write_all(200));
  const auto both = std::chrono::steady_clock::now() - start;
  const auto after = pinned_pool::memory_usage();
  EXPECT_EQ(right, kTiles);
  // The kernel lets a burst through at the start, so half of the arithmetic is asked for.
  EXPECT_GT(reading, std::chrono::milliseconds(400));
  EXPECT_GT(both - reading, std::chrono::milliseconds(400));
  EXPECT_LT(both, std::chrono::seconds(60));
  EXPECT_LT(after.peak_resident_bytes, before.peak_resident_bytes + kGrowthBytes)
      << "writes pile up in front of the disk";
  ASSERT_TRUE(check_all(200, right)) << "what the slow disk took";
  EXPECT_EQ(right, kTiles);
}

// Row 22. A second job is tests/swapper/directory_lock_test.cc.
TEST_P(SwapperOnDisk, AReadOnlyDiskIsRefusedBeforeAnythingIsTouched) {
  std::ofstream(disk_.mount_point() / "users.txt") << "mine";
  ASSERT_EQ(::mount("", disk_.mount_point().c_str(), "", MS_REMOUNT | MS_RDONLY, ""), 0);
  const auto store = TileStore::create(*engine_, layout_, std::vector(kTiles, kElements),
                                       {.directories = {disk_.mount_point()}});
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().kind, ErrorKind::kPermission) << store.error().message();
  EXPECT_EQ(store.error().errno_value, EROFS);
  EXPECT_THAT(names_in(disk_.mount_point()), testing::ElementsAre("lost+found", "users.txt"));
}

// A file that takes all room but `left_bytes`, about.
void fill_disk(const std::filesystem::path& mount, std::uint64_t left_bytes) {
  const std::uint64_t free = std::filesystem::space(mount).available;
  ASSERT_GT(free, left_bytes);
  const auto file = aio::File::create(mount / "full", {.size_bytes = free - left_bytes});
  ASSERT_TRUE(file) << file.error().message();
}

TEST_P(SwapperOnDisk, AFreedTileThatDoesNotFitAgainIsNoSpaceAndMovesNothing) {
  ASSERT_NO_FATAL_FAILURE(open_store());
  ASSERT_TRUE(write_all(100));
  const std::uint64_t before = std::filesystem::space(disk_.mount_point()).available;
  for (TileId tile = 0; tile < 4; ++tile) store_->free(tile);
  const std::uint64_t freed = 4 * layout_.tile_bytes(kElements);
  EXPECT_GE(std::filesystem::space(disk_.mount_point()).available, before + freed - 64 * 1024);
  ASSERT_NO_FATAL_FAILURE(fill_disk(disk_.mount_point(), kMiB / 2));
  const std::uint64_t moved = store_->stats().written_bytes;
  const auto written = write_tile(*store_, 2, layout_.all(), 7);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().kind, ErrorKind::kNoSpace) << written.error().message();
  EXPECT_THAT(written.error().message(), HasSubstr("tile 2 was freed"));
  EXPECT_THAT(written.error().message(), HasSubstr("980.0 KiB are needed"));
  EXPECT_THAT(written.error().message(), HasSubstr("are free"));
  EXPECT_EQ(store_->stats().written_bytes, moved);
  EXPECT_EQ(check_tile(*store_, 2, layout_.all(), 7).error().kind, ErrorKind::kInvalid);
  EXPECT_TRUE(write_tile(*store_, 5, layout_.all(), 105)) << "the others have their room";
  std::filesystem::remove(disk_.mount_point() / "full");
  EXPECT_TRUE(ok(write_tile(*store_, 2, layout_.all(), 7)));
  EXPECT_TRUE(ok(check_tile(*store_, 2, layout_.all(), 7)));
}

// The tiles are on another filesystem, so they would be copied.
TEST_P(SwapperOnDisk, ASaveThatDoesNotFitIsRefusedBeforeAnythingIsSealed) {
  const Scratch elsewhere;
  auto created = TileStore::create(*engine_, layout_, std::vector(kTiles, kElements),
                                   {.directories = {elsewhere.path()}});
  ASSERT_TRUE(created) << created.error().message();
  store_ = std::move(*created);
  ASSERT_TRUE(write_all(100));
  ASSERT_NO_FATAL_FAILURE(fill_disk(disk_.mount_point(), 3 * kMiB));
  const auto saved = save_tiles(*store_, disk_.mount_point() / "saved");
  ASSERT_FALSE(saved);
  EXPECT_EQ(saved.error().kind, ErrorKind::kNoSpace) << saved.error().message();
  EXPECT_THAT(saved.error().message(), HasSubstr("take 15.3 MiB, free are"));
  EXPECT_FALSE(store_->sealed(0));
  EXPECT_THAT(names_in(disk_.mount_point()), testing::ElementsAre("full", "lost+found"));
  std::filesystem::remove(disk_.mount_point() / "full");
  ASSERT_TRUE(ok(save_tiles(*store_, disk_.mount_point() / "saved")));
  auto open = SavedTiles::open(*engine_, disk_.mount_point() / "saved");
  ASSERT_TRUE(open) << open.error().message();
  for (TileId tile = 0; tile < kTiles; ++tile) {
    EXPECT_TRUE(ok(check_tile(**open, tile, layout_.all(), 100 + tile)));
  }
}

// A save that seals, and that has no room for the tiles to be written next.
TEST_P(SwapperOnDisk, ASaveWithoutRoomToGoOnLeavesTheStoreAsItWas) {
  ASSERT_NO_FATAL_FAILURE(open_store());
  ASSERT_TRUE(write_all(100));
  ASSERT_NO_FATAL_FAILURE(fill_disk(disk_.mount_point(), 3 * kMiB));
  const auto saved = save_tiles(*store_, disk_.mount_point() / "saved");
  ASSERT_FALSE(saved);
  EXPECT_EQ(saved.error().kind, ErrorKind::kNoSpace) << saved.error().message();
  EXPECT_FALSE(std::filesystem::exists(disk_.mount_point() / "saved"));
  ASSERT_TRUE(write_all(200)) << "the store goes on";
  ASSERT_TRUE(ok(
      save_tiles(*store_, disk_.mount_point() / "saved", {.rewritten = std::vector<bool>(kTiles)})))
      << "links take no room";
}

INSTANTIATE_TEST_SUITE_P(Backends, SwapperOnDisk,
                         testing::Values(aio::BackendKind::kIoUring, aio::BackendKind::kThreadPool),
                         [](const auto& info) {
                           return info.param == aio::BackendKind::kIoUring ? "io_uring" : "threads";
                         });

}  // namespace
}  // namespace spillway::swapper
