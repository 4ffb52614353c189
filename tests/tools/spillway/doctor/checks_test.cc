#include "tools/spillway/doctor/checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spillway::tools {
namespace {

using pinned_pool::MemoryLimits;
using ::testing::HasSubstr;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

aio::Capability named(const std::vector<aio::Capability>& all, const std::string& name) {
  for (const aio::Capability& one : all) {
    if (one.name == name) return one;
  }
  ADD_FAILURE() << "no capability " << name;
  return {};
}

MemoryLimits generous() {
  MemoryLimits limits;
  limits.available_bytes = 8192 * kMiB;
  limits.huge_page_bytes = 2 * kMiB;
  limits.free_huge_page_bytes = 64 * kMiB;
  return limits;
}

TEST(DoctorChecksTest, AGenerousMachineNeedsNothing) {
  for (const aio::Capability& one : check_memory(generous())) {
    EXPECT_TRUE(one.available) << one.name << ": " << one.reason;
    EXPECT_EQ(one.fix, "");
    EXPECT_NE(one.reason, "");
  }
}

TEST(DoctorChecksTest, ASmallMemlockLimitIsTold) {
  MemoryLimits limits = generous();
  limits.memlock_bytes = 8 * kMiB;
  const aio::Capability locked = named(check_memory(limits), "page-locked memory");
  EXPECT_FALSE(locked.available);
  EXPECT_THAT(locked.reason, HasSubstr("8.0 MiB"));
  EXPECT_THAT(locked.fix, HasSubstr("ulimit -l"));
  limits.memlock_bytes = 600 * kMiB;
  EXPECT_TRUE(named(check_memory(limits), "page-locked memory").available);
  limits.locked_bytes = 300 * kMiB;
  EXPECT_FALSE(named(check_memory(limits), "page-locked memory").available)
      << "what is in use counts";
}

TEST(DoctorChecksTest, AFullCgroupIsTold) {
  MemoryLimits limits = generous();
  limits.cgroup_path = "/sys/fs/cgroup/memory/job";
  limits.cgroup_limit_bytes = 4096 * kMiB;
  limits.cgroup_used_bytes = 1024 * kMiB;
  EXPECT_TRUE(named(check_memory(limits), "memory of the cgroup").available);
  limits.cgroup_used_bytes = 4000 * kMiB;
  const aio::Capability full = named(check_memory(limits), "memory of the cgroup");
  EXPECT_FALSE(full.available);
  EXPECT_THAT(full.reason, HasSubstr("/sys/fs/cgroup/memory/job"));
  limits.cgroup_used_bytes = 5000 * kMiB;  // over the limit for a moment
  EXPECT_FALSE(named(check_memory(limits), "memory of the cgroup").available);
}

TEST(DoctorChecksTest, MissingHugePagesAreTold) {
  MemoryLimits limits = generous();
  limits.free_huge_page_bytes = 0;
  const aio::Capability pages = named(check_memory(limits), "huge pages");
  EXPECT_FALSE(pages.available);
  EXPECT_THAT(pages.fix, HasSubstr("vm.nr_hugepages"));
}

}  // namespace
}  // namespace spillway::tools
