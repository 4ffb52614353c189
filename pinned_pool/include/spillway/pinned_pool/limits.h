// What memory this process may still take, and the plan that is compared with it beforehand.
//
// The OOM killer is silent, so every large allocation is planned, added up, and refused with the
// arithmetic in the message when a limit cannot hold it. Huge pages count in every figure.
#pragma once

#include <cstdint>
#include <filesystem>
#include <spillway/aio/error.h>
#include <string>
#include <vector>

namespace spillway::pinned_pool {

struct MemoryLimits {
  static constexpr std::uint64_t kUnlimited = ~std::uint64_t{0};
  std::uint64_t memlock_bytes = kUnlimited;   // RLIMIT_MEMLOCK; unlimited with CAP_IPC_LOCK
  std::uint64_t locked_bytes = 0;             // VmLck + VmPin: counted against memlock already
  std::uint64_t cgroup_limit_bytes = kUnlimited;  // smallest limit from here up to the root
  std::uint64_t cgroup_used_bytes = 0;        // of that cgroup, reclaimable file cache excluded
  std::uint64_t available_bytes = kUnlimited;  // MemAvailable
  std::uint64_t free_huge_page_bytes = 0;     // of the default size
  std::uint64_t huge_page_bytes = 0;          // default huge page size, 0 = none
  std::string cgroup_path;                    // the cgroup whose limit is the smallest

  // Reads /proc and the cgroup v1 or v2 files under `root` ("/" but in tests).
  static MemoryLimits read(const std::filesystem::path& root = "/");
};

struct PlannedMemory {
  std::string what;  // "optimizer buffers: 4 x 40 MiB"
  std::uint64_t bytes = 0;
  bool locked = false;  // must fit into RLIMIT_MEMLOCK
};

// kNoMemory, with the sum and the limit written out, when the plan cannot be held.
Result<void> check_plan(const std::vector<PlannedMemory>& plan, const MemoryLimits& limits);

struct MemoryUsage {
  std::uint64_t resident_bytes = 0;       // VmRSS + huge pages
  std::uint64_t peak_resident_bytes = 0;  // VmHWM + the most huge pages seen so far
  std::uint64_t huge_page_bytes = 0;      // HugetlbPages
};
MemoryUsage memory_usage();

// "1.5 GiB", "340 MiB", "12 KiB": for messages.
std::string format_bytes(std::uint64_t bytes);

}  // namespace spillway::pinned_pool
