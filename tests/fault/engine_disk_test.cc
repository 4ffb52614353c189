// Rows 14, 15 and 20 of the fault list at the engine, on filesystems of the test's own: a full
// disk, a disk that loses blocks, and one without direct I/O. Needs root.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <spillway/aio/engine.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "support/loop_filesystem.h"
#include "support/scratch.h"

namespace spillway::aio {
namespace {

constexpr std::size_t kMiB = 1 << 20;

class EngineOnDisk : public ::testing::TestWithParam<BackendKind> {
 protected:
  void SetUp() override {
    if (!disk_.why_not().empty()) GTEST_SKIP() << disk_.why_not();
    auto engine = Engine::create(
        {.backend = GetParam(), .block_size_bytes = 65536, .queue_depth = 8, .thread_count = 2});
    if (!engine) GTEST_SKIP() << engine.error().message();
    engine_ = std::move(*engine);
  }

  Completion write(const File& file, std::size_t size_bytes, int fill) {
    Buffer buffer = Buffer::allocate(size_bytes);
    std::memset(buffer.data(), fill, size_bytes);
    return engine_->write({.file = &file, .size_bytes = size_bytes}, std::move(buffer)).wait();
  }

  LoopFilesystem disk_{32 * kMiB};
  std::unique_ptr<Engine> engine_;
};

TEST_P(EngineOnDisk, AFullDiskRefusesPreallocationAndLeavesNothing) {
  auto file = File::create(disk_.mount_point() / "x", {.size_bytes = 64 * kMiB});
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().kind, ErrorKind::kNoSpace);
  EXPECT_EQ(file.error().errno_value, ENOSPC);
  EXPECT_FALSE(std::filesystem::exists(disk_.mount_point() / "x"));
  file = File::create(disk_.mount_point() / "x", {.size_bytes = 8 * kMiB});
  EXPECT_TRUE(file) << "the space is free again: " << file.error().message();
}

TEST_P(EngineOnDisk, ADiskThatFillsUpIsReportedAndWorksAfterSpaceIsFreed) {
  auto file = File::create(disk_.mount_point() / "x", {});
  ASSERT_TRUE(file) << file.error().message();
  auto other = File::create(disk_.mount_point() / "other", {.size_bytes = 16 * kMiB});
  ASSERT_TRUE(other) << other.error().message();
  Completion done = write(*file, 24 * kMiB, 1);
  ASSERT_FALSE(done.transferred);
  const Error& error = done.transferred.error();
  EXPECT_EQ(error.kind, ErrorKind::kNoSpace) << error.message();
  EXPECT_EQ(error.errno_value, ENOSPC);
  EXPECT_LT(error.got, 24 * kMiB);
  ASSERT_TRUE(other->remove());
  other = tl::unexpected(Error{});  // closed: now its blocks are free
  done = write(*file, 24 * kMiB, 2);
  ASSERT_TRUE(done.transferred) << done.transferred.error().message();
  std::memset(done.buffer.data(), 0, 24 * kMiB);
  done = engine_->read({.file = &*file, .size_bytes = 24 * kMiB}, std::move(done.buffer)).wait();
  ASSERT_TRUE(done.transferred) << done.transferred.error().message();
  for (std::size_t i = 0; i < 24 * kMiB; ++i) ASSERT_EQ(done.buffer.data()[i], std::byte{2}) << i;
}

TEST_P(EngineOnDisk, ABlockThatCannotBeReadIsAnErrorWithItsPlace) {
  auto file = File::create(disk_.mount_point() / "x", {.size_bytes = 16 * kMiB});
  ASSERT_TRUE(file) << file.error().message();
  ASSERT_TRUE(write(*file, 16 * kMiB, 3).transferred);
  ASSERT_TRUE(file->sync());
  ::sync();
  // The end of the disk goes: some part of the file lay there.
  ASSERT_EQ(::truncate(disk_.image().c_str(), static_cast<off_t>(12 * kMiB)), 0);
  Completion done =
      engine_->read({.file = &*file, .size_bytes = 16 * kMiB}, Buffer::allocate(16 * kMiB)).wait();
  ASSERT_FALSE(done.transferred);
  EXPECT_EQ(done.transferred.error().kind, ErrorKind::kIo) << done.transferred.error().message();
  EXPECT_EQ(done.transferred.error().errno_value, EIO);
  for (std::size_t i = 0; i < done.transferred.error().got; ++i) {
    ASSERT_EQ(done.buffer.data()[i], std::byte{3}) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, EngineOnDisk,
                         ::testing::Values(BackendKind::kIoUring, BackendKind::kThreadPool),
                         [](const auto& info) {
                           return info.param == BackendKind::kIoUring ? "io_uring" : "threads";
                         });

// ramfs refuses O_DIRECT (tmpfs accepts it).
TEST(NoDirectIo, IsSaidOrRefusedAndLeavesNothing) {
  if (::geteuid() != 0) GTEST_SKIP() << "mounting a ramfs needs root";
  Scratch scratch;
  if (::mount("none", scratch.path().c_str(), "ramfs", 0, "") != 0) {
    GTEST_SKIP() << "no ramfs can be mounted here";
  }
  auto required = File::create(scratch / "x", {.size_bytes = 0, .direct = Direct::kRequired});
  EXPECT_FALSE(required);
  if (!required) {
    EXPECT_EQ(required.error().kind, ErrorKind::kUnsupported);
    EXPECT_NE(required.error().message().find("O_DIRECT"), std::string::npos);
  }
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
  {
    // Nor has it fallocate: the space is really written.
    auto file = File::create(scratch / "x", {.size_bytes = 3 * kMiB + 5});
    EXPECT_TRUE(file) << file.error().message();
    if (file) {
      EXPECT_FALSE(file->direct());
      EXPECT_NE(file->why_not_direct(), "");
      EXPECT_EQ(*file->size_bytes(), 3 * kMiB + 5);
    }
  }
  ::umount2(scratch.path().c_str(), MNT_DETACH);
}

}  // namespace
}  // namespace spillway::aio
