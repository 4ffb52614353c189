#include "spillway/pinned_pool/limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "fake_root.h"

namespace spillway::pinned_pool {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kMiB = 1 << 20;

TEST(MemoryLimits, ReadsTheLockLimitHugePagesAndAvailableMemory) {
  const FakeRoot root;
  const MemoryLimits limits = MemoryLimits::read(root.path());
  EXPECT_EQ(limits.memlock_bytes, 8 * kMiB);  // the soft limit
  EXPECT_EQ(limits.locked_bytes, 0u);
  EXPECT_EQ(limits.available_bytes, 1024 * kMiB);
  EXPECT_EQ(limits.huge_page_bytes, 2 * kMiB);
  EXPECT_EQ(limits.free_huge_page_bytes, (6 - 2) * 2 * kMiB);  // 2 are promised to others
  EXPECT_EQ(limits.cgroup_limit_bytes, MemoryLimits::kUnlimited);
  EXPECT_EQ(limits.cgroup_path, "");
}

TEST(MemoryLimits, TakesTheLargerOfTheTwoCountsOfLockedMemory) {
  const FakeRoot root;
  root.write("proc/self/status", "VmLck:\t 12 kB\nVmPin:\t 20 kB\nCapEff:\t0000000000000000\n");
  EXPECT_EQ(MemoryLimits::read(root.path()).locked_bytes, 20u * 1024);
  root.write("proc/self/status", "VmLck:\t 30 kB\nVmPin:\t 20 kB\nCapEff:\t0000000000000000\n");
  EXPECT_EQ(MemoryLimits::read(root.path()).locked_bytes, 30u * 1024);
  EXPECT_EQ(MemoryLimits::read(root.path()).registered_bytes, 20u * 1024);
}

TEST(MemoryLimits, TheCapabilityToLockLiftsTheLimit) {
  const FakeRoot root;
  root.write("proc/self/status", "CapEff:\t000001fffeffffff\n");
  EXPECT_EQ(MemoryLimits::read(root.path()).memlock_bytes, MemoryLimits::kUnlimited);
  root.write("proc/self/uid_map", "         0          0 4294967295\n");
  EXPECT_EQ(MemoryLimits::read(root.path()).memlock_bytes, MemoryLimits::kUnlimited);
  root.write("proc/self/status", "CapEff:\t000001fffeffbfff\n");  // all but bit 14
  EXPECT_EQ(MemoryLimits::read(root.path()).memlock_bytes, 8 * kMiB);
}

TEST(MemoryLimits, TheCapabilityOfAUserNamespaceDoesNot) {
  const FakeRoot root;
  root.write("proc/self/status", "CapEff:\t000001ffffffffff\n");
  for (const char* map :
       {"         0       1000          1\n", "0 0 65536\n", "1000 0 4294967295\n"}) {
    root.write("proc/self/uid_map", map);
    EXPECT_EQ(MemoryLimits::read(root.path()).memlock_bytes, 8 * kMiB) << map;
  }
}

TEST(MemoryLimits, UnlimitedIsNoNumber) {
  const FakeRoot root;
  root.write("proc/self/limits",
             "Max locked memory         unlimited            unlimited  bytes\n");
  EXPECT_EQ(MemoryLimits::read(root.path()).memlock_bytes, MemoryLimits::kUnlimited);
}

// Version 1: the memory controller has a mount of its own, and "no limit" is a number.
class CgroupV1 : public ::testing::Test {
 protected:
  CgroupV1() {
    root_.write("proc/self/cgroup", "4:memory:/jobs/one\n3:cpu,cpuacct:/\n0::/elsewhere\n");
    root_.write(
        "proc/self/mountinfo",
        "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
        "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n");
    level("", 9223372036854771712u, 900 * kMiB, 0, 0);
  }
  void level(const std::string& path, std::uint64_t limit, std::uint64_t usage,
             std::uint64_t inactive_file, std::uint64_t active_file) {
    const std::string directory = "sys/fs/cgroup/memory/" + path + "/";
    root_.write(directory + "memory.limit_in_bytes", std::to_string(limit) + "\n");
    root_.write(directory + "memory.usage_in_bytes", std::to_string(usage) + "\n");
    root_.write(directory + "memory.stat",
                "cache 1\ninactive_file 7\nactive_file 7\ntotal_inactive_file " +
                    std::to_string(inactive_file) + "\ntotal_active_file " +
                    std::to_string(active_file) + "\n");
  }
  FakeRoot root_;
};

TEST_F(CgroupV1, LeavesDroppableFileCacheOutOfTheUse) {
  level("jobs", 9223372036854771712u, 0, 0, 0);
  level("jobs/one", 512 * kMiB, 200 * kMiB, 50 * kMiB, 30 * kMiB);
  const MemoryLimits limits = MemoryLimits::read(root_.path());
  EXPECT_EQ(limits.cgroup_limit_bytes, 512 * kMiB);
  EXPECT_EQ(limits.cgroup_used_bytes, 120 * kMiB);
  EXPECT_EQ(limits.cgroup_path, "/sys/fs/cgroup/memory/jobs/one");
}

TEST_F(CgroupV1, NoLimitAnywhere) {
  level("jobs", 9223372036854771712u, 1, 0, 0);
  level("jobs/one", 9223372036854771712u, 1, 0, 0);
  EXPECT_EQ(MemoryLimits::read(root_.path()).cgroup_limit_bytes, MemoryLimits::kUnlimited);
}

TEST_F(CgroupV1, AParentWithLessRoomDecides) {
  level("jobs", 1024 * kMiB, 1000 * kMiB, 0, 0);    // 24 MiB left, used up by neighbours
  level("jobs/one", 512 * kMiB, 100 * kMiB, 0, 0);  // 412 MiB left
  const MemoryLimits limits = MemoryLimits::read(root_.path());
  EXPECT_EQ(limits.cgroup_path, "/sys/fs/cgroup/memory/jobs");
  EXPECT_EQ(limits.cgroup_limit_bytes - limits.cgroup_used_bytes, 24 * kMiB);
}

TEST_F(CgroupV1, CountsHugePagesThatTheControllerDoesNot) {
  level("jobs/one", 512 * kMiB, 100 * kMiB, 0, 0);
  root_.write("proc/self/status", "CapEff:\t0000000000000000\nHugetlbPages:\t 65536 kB\n");
  EXPECT_EQ(MemoryLimits::read(root_.path()).cgroup_used_bytes, 164 * kMiB);
}

TEST_F(CgroupV1, AMountThatShowsOnlyTheContainersPart) {
  root_.write("proc/self/mountinfo",
              "35 31 0:32 /jobs/one /sys/fs/cgroup/memory ro - cgroup memory rw,memory\n");
  level("", 64 * kMiB, 10 * kMiB, 0, 0);
  const MemoryLimits limits = MemoryLimits::read(root_.path());
  EXPECT_EQ(limits.cgroup_limit_bytes, 64 * kMiB);
  EXPECT_EQ(limits.cgroup_used_bytes, 10 * kMiB);
  root_.write("proc/self/cgroup", "4:memory:/jobs/one/inner\n");
  level("inner", 32 * kMiB, 1 * kMiB, 0, 0);
  EXPECT_EQ(MemoryLimits::read(root_.path()).cgroup_path, "/sys/fs/cgroup/memory/inner");
}

// Version 2: one tree for all controllers, "max" for no limit, none of the files at the root.
class CgroupV2 : public ::testing::Test {
 protected:
  CgroupV2() {
    root_.write("proc/self/cgroup", "0::/user.slice/job\n");
    mount("/", "rw,nsdelegate");
  }
  void mount(const std::string& mount_root, const std::string& options) {
    root_.write("proc/self/mountinfo", "30 23 0:26 " + mount_root +
                                           " /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 " +
                                           options + "\n");
  }
  void level(const std::string& path, const std::string& max, std::uint64_t current,
             std::uint64_t inactive_file) {
    const std::string directory = "sys/fs/cgroup/" + path + "/";
    root_.write(directory + "memory.max", max + "\n");
    root_.write(directory + "memory.current", std::to_string(current) + "\n");
    root_.write(directory + "memory.stat",
                "anon 5\ninactive_file " + std::to_string(inactive_file) + "\nactive_file 4096\n");
  }
  FakeRoot root_;
};

TEST_F(CgroupV2, MaxIsNoLimit) {
  level("user.slice", "max", 1, 0);
  level("user.slice/job", "max", 1, 0);
  EXPECT_EQ(MemoryLimits::read(root_.path()).cgroup_limit_bytes, MemoryLimits::kUnlimited);
}

TEST_F(CgroupV2, AParentsLimitHoldsBelowAChildWithoutOne) {
  level("user.slice", std::to_string(300 * kMiB), 100 * kMiB, 20 * kMiB);
  level("user.slice/job", "max", 1, 0);
  const MemoryLimits limits = MemoryLimits::read(root_.path());
  EXPECT_EQ(limits.cgroup_limit_bytes, 300 * kMiB);
  EXPECT_EQ(limits.cgroup_used_bytes, 80 * kMiB - 4096);
  EXPECT_EQ(limits.cgroup_path, "/sys/fs/cgroup/user.slice");
}

// Above memory.high the kernel does not kill, it makes each allocation wait.
TEST_F(CgroupV2, ALowerHighIsTheLimit) {
  const auto limit = [this](const std::string& high, const std::string& max) {
    level("user.slice/job", max, 100 * kMiB, 0);
    root_.write("sys/fs/cgroup/user.slice/job/memory.high", high + "\n");
    return MemoryLimits::read(root_.path()).cgroup_limit_bytes / kMiB;
  };
  const std::string low = std::to_string(200 * kMiB), tall = std::to_string(300 * kMiB);
  EXPECT_EQ(limit(low, tall), 200u);
  EXPECT_EQ(limit(low, "max"), 200u);
  EXPECT_EQ(limit(tall, low), 200u);
  EXPECT_EQ(limit("max", tall), 300u);
  EXPECT_EQ(limit("max", "max"), MemoryLimits::kUnlimited / kMiB);
}

TEST_F(CgroupV2, HugePagesThatItAccountsForAreNotCountedTwice) {
  root_.write("proc/self/status", "CapEff:\t0000000000000000\nHugetlbPages:\t 65536 kB\n");
  level("user.slice/job", std::to_string(300 * kMiB), 100 * kMiB, 0);
  EXPECT_EQ(MemoryLimits::read(root_.path()).cgroup_used_bytes, 164 * kMiB - 4096);
  mount("/", "rw,memory_hugetlb_accounting");
  EXPECT_EQ(MemoryLimits::read(root_.path()).cgroup_used_bytes, 100 * kMiB - 4096);
}

TEST_F(CgroupV2, APathOutsideTheMountMeansItsTop) {
  root_.write("proc/self/cgroup", "0::/../../other\n");
  root_.write("sys/fs/cgroup/memory.max", "1048576\n");
  root_.write("sys/fs/cgroup/memory.current", "4096\n");
  const MemoryLimits limits = MemoryLimits::read(root_.path());
  EXPECT_EQ(limits.cgroup_limit_bytes, kMiB);
  EXPECT_EQ(limits.cgroup_used_bytes, 4096u);
}

TEST(CheckPlan, RefusesWhatMemlockCannotHoldWithTheArithmetic) {
  const MemoryLimits limits{.memlock_bytes = 8 * kMiB};
  const auto refused = check_plan({{"optimizer buffers 4 x 40.0 MiB", 160 * kMiB, true},
                                   {"metadata", 500 * kMiB, false},
                                   {"parameter buffers 5 x 14.0 MiB", 70 * kMiB, true}},
                                  limits);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kNoMemory);
  EXPECT_EQ(refused.error().wanted, 230 * kMiB);
  EXPECT_EQ(refused.error().got, 8 * kMiB);
  EXPECT_THAT(refused.error().detail,
              "optimizer buffers 4 x 40.0 MiB (160.0 MiB) + parameter buffers 5 x 14.0 MiB "
              "(70.0 MiB) = 230.0 MiB, but RLIMIT_MEMLOCK leaves 8.0 MiB (limit 8.0 MiB, locked "
              "0 B): raise it with 'ulimit -l' or do without pinned memory");
  EXPECT_THAT(refused.error().message(), HasSubstr("pinned memory"));
}

TEST(CheckPlan, HoldsExactlyWhatIsLeftAndNotAByteMore) {
  const MemoryLimits limits{.memlock_bytes = 8 * kMiB, .locked_bytes = 3 * kMiB};
  EXPECT_TRUE(check_plan({{"a", 5 * kMiB, true}}, limits));
  EXPECT_FALSE(check_plan({{"a", 5 * kMiB + 1, true}}, limits));
  EXPECT_TRUE(check_plan({{"a", 500 * kMiB, false}}, limits));
}

// io_uring keeps a count of its own, and counts memory once for each ring that knows it.
TEST(CheckPlan, RefusesRegistrationsThatMemlockCannotHoldWithTheArithmetic) {
  const MemoryLimits limits{
      .memlock_bytes = 100 * kMiB, .locked_bytes = 100 * kMiB, .registered_bytes = 20 * kMiB};
  EXPECT_TRUE(check_plan({{.what = "a", .bytes = 40 * kMiB, .registrations = 2}}, limits));
  EXPECT_TRUE(check_plan({{.what = "a", .bytes = 500 * kMiB}}, limits));
  const auto refused =
      check_plan({{.what = "a 3 x 10.0 MiB", .bytes = 30 * kMiB, .registrations = 2},
                  {.what = "b", .bytes = 500 * kMiB},
                  {.what = "c", .bytes = 20 * kMiB + 1, .registrations = 1}},
                 limits);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kNoMemory);
  EXPECT_EQ(refused.error().wanted, 80 * kMiB + 1);
  EXPECT_EQ(refused.error().got, 80 * kMiB);
  EXPECT_THAT(refused.error().detail,
              "a 3 x 10.0 MiB (30.0 MiB) x 2 I/O threads + c (20.0 MiB) x 1 I/O thread = 80.0 MiB, "
              "but RLIMIT_MEMLOCK leaves 80.0 MiB (limit 100.0 MiB, registered 20.0 MiB): raise it "
              "with 'ulimit -l', plan fewer I/O threads or smaller buffers, or do without "
              "registration");
}

TEST(CheckPlan, CountsLockedAndUnlockedMemoryAgainstTheCgroup) {
  const MemoryLimits limits{.cgroup_limit_bytes = 100 * kMiB,
                            .cgroup_used_bytes = 40 * kMiB,
                            .cgroup_path = "/sys/fs/cgroup/job"};
  EXPECT_TRUE(check_plan({{"a", 30 * kMiB, true}, {"b", 30 * kMiB, false}}, limits));
  const auto refused = check_plan({{"a", 30 * kMiB, true}, {"b", 31 * kMiB, false}}, limits);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().detail,
              HasSubstr("= 61.0 MiB, but the cgroup /sys/fs/cgroup/job leaves 60.0 MiB (limit "
                        "100.0 MiB, used 40.0 MiB)"));
}

TEST(CheckPlan, ACgroupThatIsOverItsLimitHasNoRoom) {
  const MemoryLimits limits{.cgroup_limit_bytes = 10 * kMiB, .cgroup_used_bytes = 11 * kMiB};
  EXPECT_FALSE(check_plan({{"a", 1, false}}, limits));
}

TEST(CheckPlan, MemoryThatIsMappedAndNotTouchedIsTaken) {
  MemoryLimits limits{.cgroup_limit_bytes = 100 * kMiB,
                      .cgroup_used_bytes = 40 * kMiB,
                      .cgroup_path = "/job",
                      .untouched_bytes = 50 * kMiB};
  EXPECT_TRUE(check_plan({{"a", 10 * kMiB}}, limits));
  auto refused = check_plan({{"a", 10 * kMiB + 1}}, limits);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().detail,
              HasSubstr("the cgroup /job leaves 10.0 MiB (limit 100.0 MiB, used 40.0 MiB, 50.0 MiB "
                        "mapped and not touched yet)"));
  limits = {.available_bytes = 60 * kMiB, .untouched_bytes = 50 * kMiB};
  EXPECT_TRUE(check_plan({{"a", 10 * kMiB}}, limits));
  refused = check_plan({{"a", 10 * kMiB + 1}}, limits);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().got, 10 * kMiB);
  EXPECT_THAT(refused.error().detail, HasSubstr("this machine has 60.0 MiB available, 50.0 MiB "
                                                "mapped and not touched yet: "));
  limits.untouched_bytes = 70 * kMiB;
  EXPECT_FALSE(check_plan({{"a", 1}}, limits));
}

TEST(CheckPlan, FreeHugePagesServeOnlyWhatMayLieOnThem) {
  const MemoryLimits limits{.available_bytes = 10 * kMiB, .free_huge_page_bytes = 100 * kMiB};
  EXPECT_TRUE(check_plan({{"a", 90 * kMiB, false, true}, {"b", 10 * kMiB}}, limits));
  EXPECT_FALSE(check_plan({{"a", 90 * kMiB, false, false}}, limits));
  EXPECT_FALSE(check_plan({{"a", 20 * kMiB, false, true}, {"b", 11 * kMiB}}, limits));
}

TEST(CheckPlan, SumsDoNotWrapAround) {
  EXPECT_FALSE(
      check_plan({{"a", ~std::uint64_t{0}, false}, {"b", 2, false}}, {.available_bytes = 100}));
}

TEST(FormatBytes, OneDigitAfterThePointInTheLargestUnit) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.0 KiB");
  EXPECT_EQ(format_bytes(1024 * 1024 - 1), "1.0 MiB");  // and not 1024.0 KiB
  EXPECT_EQ(format_bytes(340 * kMiB), "340.0 MiB");
  EXPECT_EQ(format_bytes(1536 * kMiB), "1.5 GiB");
  EXPECT_EQ(format_bytes(MemoryLimits::kUnlimited), "unlimited");
}

TEST(MemoryUsage, GrowsByTheMemoryTouched) {
  const MemoryUsage before = memory_usage();
  std::vector<char> memory(64 * kMiB);
  std::memset(memory.data(), 1, memory.size());
  const MemoryUsage after = memory_usage();
  EXPECT_GE(after.resident_bytes, before.resident_bytes + 60 * kMiB);
  EXPECT_GE(after.peak_resident_bytes, after.resident_bytes);
}

}  // namespace
}  // namespace spillway::pinned_pool
