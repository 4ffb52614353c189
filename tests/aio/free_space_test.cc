#include <spillway/aio/free_space.h>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>

#include "mount_table.h"
#include "support/loop_filesystem.h"
#include "support/scratch.h"

namespace spillway::aio {
namespace {

// Two subvolumes of one btrfs, each mounted, and a disk with a blank in its path (proc(5)).
constexpr const char* kTable =
    "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
    "60 22 0:47 /one /data/one rw - btrfs /dev/nvme0n1 rw,subvol=/one\n"
    "61 22 0:47 /two /data/two rw - btrfs /dev/nvme0n1 rw,subvol=/two\n"
    "7 22 259:3 / /my\\040disk rw - xfs /dev/nvme1n1p3 rw,prjquota\n";

TEST(MountTable, SubvolumesOfOneBtrfsAreOnOneDevice) {
  std::istringstream first(kTable);
  std::istringstream second(kTable);
  const auto one = find_mount(first, 60);
  const auto two = find_mount(second, 61);
  ASSERT_TRUE(one && two);
  EXPECT_EQ(one->device, makedev(0, 47));
  EXPECT_EQ(one->device, two->device);
  EXPECT_EQ(one->point, "/data/one");
  EXPECT_EQ(two->point, "/data/two");
}

TEST(MountTable, TakesNumbersAndPathsForWhatTheyAre) {
  std::istringstream table(kTable);
  const auto disk = find_mount(table, 7);
  ASSERT_TRUE(disk);
  EXPECT_EQ(disk->device, makedev(259, 3));
  EXPECT_EQ(disk->point, "/my disk");
  std::istringstream again(kTable);
  EXPECT_FALSE(find_mount(again, 6));
  std::istringstream odd("garbage\n\n22\n");
  EXPECT_FALSE(find_mount(odd, 22));
  std::istringstream fdinfo("pos:\t0\nflags:\t02100000\nmnt_id:\t60\nino:\t7\n");
  EXPECT_EQ(mount_number(fdinfo), 60u);
  std::istringstream none("pos:\t0\n");
  EXPECT_FALSE(mount_number(none));
}

TEST(FreeSpace, IsThatOfTheDirectorysFilesystem) {
  const Scratch scratch;
  std::filesystem::create_directory(scratch / "below");
  const auto space = free_space(scratch.path());
  ASSERT_TRUE(space) << space.error().message();
  const auto expected = std::filesystem::space(scratch.path()).available;
  EXPECT_NEAR(double(space->free_bytes), double(expected), double(expected) / 10);
  EXPECT_GE(space->filesystem_free_bytes, space->free_bytes);
  const auto below = free_space(scratch / "below");
  ASSERT_TRUE(below);
  EXPECT_EQ(below->filesystem, space->filesystem);
  const auto elsewhere = free_space("/dev/shm");
  ASSERT_TRUE(elsewhere) << elsewhere.error().message();
  EXPECT_NE(elsewhere->filesystem, space->filesystem);
  const auto missing = free_space(scratch / "missing");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::kNotFound);
}

// A project of 20 MiB in a filesystem of 400.
TEST(FreeSpace, OfAProjectIsItsLimitAndNotItsFilesystems) {
  const LoopFilesystem loop(std::uint64_t{400} << 20, "xfs", 512, "prjquota");
  if (!loop.why_not().empty()) GTEST_SKIP() << loop.why_not();
  const std::string mount = loop.mount_point().string();
  std::filesystem::create_directory(loop.mount_point() / "project");
  const std::string quota = "xfs_quota -x -c 'project -s -p " + mount + "/project 7' -c " +
                            "'limit -p bhard=20m 7' " + mount + " >/dev/null 2>&1";
  if (std::system(quota.c_str()) != 0) GTEST_SKIP() << "xfs_quota cannot set a project's limit";
  const auto whole = free_space(loop.mount_point());
  const auto part = free_space(loop.mount_point() / "project");
  ASSERT_TRUE(whole && part);
  EXPECT_EQ(part->project, 7u);
  EXPECT_EQ(whole->project, 0u);
  EXPECT_LE(part->free_bytes, std::uint64_t{20} << 20);
  EXPECT_EQ(part->filesystem, whole->filesystem);
  EXPECT_GT(part->filesystem_free_bytes, std::uint64_t{200} << 20);
}

TEST(FreeSpace, AQuotaThatIsUsedUpIsNoSpaceAndSaysSo) {
  const Error error = errno_error("preallocate", "/x", EDQUOT, "5 bytes were asked for").value();
  EXPECT_EQ(error.kind, ErrorKind::kNoSpace);
  EXPECT_NE(error.detail.find("5 bytes were asked for; the quota of"), std::string::npos);
  EXPECT_EQ(errno_error("write", "/x", EDQUOT).value().detail.find("the quota of"), 0u);
}

}  // namespace
}  // namespace spillway::aio
