// Checkpoints on the filesystem of the swap files where no link can be had: clones, which share
// the room of what they are of (FICLONE). On an XFS, seen through a second mount: link(2) does not
// cross mounts, FICLONE does since Linux 5.19.
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "tests/support/loop_filesystem.h"
#include "tests/trainer/checkpoint/states_fixture.h"

namespace spillway::trainer::testing {
namespace {

// Whether all room that the file takes is shared with another one's.
bool is_shared(const std::filesystem::path& path) {
  constexpr std::size_t kMostExtents = 512;
  alignas(fiemap) std::array<char, sizeof(fiemap) + kMostExtents * sizeof(fiemap_extent)> memory{};
  auto* const map = reinterpret_cast<fiemap*>(memory.data());
  map->fm_length = FIEMAP_MAX_OFFSET;
  map->fm_extent_count = kMostExtents;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool asked = fd >= 0 && ::ioctl(fd, FS_IOC_FIEMAP, map) == 0;
  if (fd >= 0) ::close(fd);
  EXPECT_TRUE(asked) << path << ": " << std::strerror(errno);
  const std::span extents(map->fm_extents, map->fm_mapped_extents);
  return asked && !extents.empty() && std::ranges::all_of(extents, [](const fiemap_extent& extent) {
           return (extent.fe_flags & FIEMAP_EXTENT_SHARED) != 0;
         });
}

class CheckpointClonesTest : public CheckpointStatesTest {
 protected:
  void SetUp() override {
    if (!disk_.why_not().empty()) GTEST_SKIP() << disk_.why_not();
    std::filesystem::create_directory(disk_.mount_point() / "swap");
    std::filesystem::create_directory(disk_.mount_point() / "saved");
    const std::filesystem::path saved = disk_.mount_point() / "saved";
    ASSERT_EQ(::mount(saved.c_str(), saved_.path().c_str(), "", MS_BIND, ""), 0)
        << std::strerror(errno);
  }
  void TearDown() override { ::umount2(saved_.path().c_str(), MNT_DETACH); }

  Config on_disk() const {
    Config config = this->config(OffloadDevice::kNvme, OffloadDevice::kNvme);
    config.offload_param.nvme_path = disk_.mount_point() / "swap";
    config.offload_optimizer.nvme_path = disk_.mount_point() / "swap";
    config.sub_group_size = 3'000;
    return config;
  }

  LoopFilesystem disk_{std::uint64_t{320} << 20, "xfs"};
};

TEST_F(CheckpointClonesTest, AClonedCheckpointSharesItsRoomAndNeverChanges) {
  for (const UpdateOrder order : {UpdateOrder::kForward, UpdateOrder::kBackward}) {
    Config config = on_disk();
    config.update_order = order;
    expect_saved_for_good(config, [&](const std::filesystem::path& checkpoint) {
      EXPECT_FALSE(std::filesystem::exists(checkpoint / "rank-0000.bin")) << "something was copied";
      ASSERT_TRUE(std::filesystem::exists(checkpoint / "rank-0000-0000.bin"));
      EXPECT_TRUE(is_shared(checkpoint / "rank-0000-0000.bin"));
      std::set<ino_t> common;
      std::ranges::set_intersection(inodes(checkpoint), inodes(disk_.mount_point() / "swap"),
                                    std::inserter(common, common.end()));
      EXPECT_TRUE(common.empty()) << "it was linked";
    });
  }
}

TEST_F(CheckpointClonesTest, TrainingGoesOnFromOneWithTheSameBits) {
  const Trace expected = run(in_memory());
  EXPECT_EQ(run(on_disk(), saved_.path()), expected);
  EXPECT_FALSE(std::filesystem::exists(at(kSavedAt) / "rank-0000.bin"));
  auto checkpoint = opened(at(kSavedAt));
  for (const Config& config : {in_memory(), on_disk()}) {
    EXPECT_EQ(run(config, {}, &checkpoint), rest(expected));
  }
}

}  // namespace
}  // namespace spillway::trainer::testing
