// What memory this process may still take, and the plan that is compared with it beforehand.
//
// The OOM killer is silent, so every large allocation is planned, added up, and refused with the
// arithmetic in the message when a limit cannot hold it. Huge pages count in every figure.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace spillway::pinned_pool {

struct SPILLWAY_API MemoryLimits {
  static constexpr std::uint64_t kUnlimited = ~std::uint64_t{0};
  std::uint64_t memlock_bytes = kUnlimited;  // RLIMIT_MEMLOCK; unlimited with CAP_IPC_LOCK
  // Counted against memlock already. The kernel keeps two counts, each with the limit to itself:
  // VmLck for mlock, VmPin for memory registered with io_uring. This is the larger one.
  std::uint64_t locked_bytes = 0;
  std::uint64_t registered_bytes = 0;  // VmPin alone
  // Of the cgroup with the least room, from this process's own up to the root.
  std::uint64_t cgroup_limit_bytes = kUnlimited;
  // Charged to it, less file cache that the kernel can drop, plus this process's huge pages where
  // the cgroup does not count them.
  std::uint64_t cgroup_used_bytes = 0;
  std::string cgroup_path = {};                // where that limit stands, empty when there is none
  std::uint64_t available_bytes = kUnlimited;  // MemAvailable
  std::uint64_t free_huge_page_bytes = 0;      // of the default size, not reserved by others
  std::uint64_t huge_page_bytes = 0;           // default huge page size, 0 = none

  // Reads /proc and the cgroup v1 or v2 files under `root` ("/" but in tests).
  static MemoryLimits read(const std::filesystem::path& root = "/");
};

struct PlannedMemory {
  std::string what;  // "optimizer buffers 4 x 40.0 MiB"
  std::uint64_t bytes = 0;
  bool locked = false;      // must fit into RLIMIT_MEMLOCK
  bool huge_pages = false;  // may be taken from the free huge pages, which MemAvailable leaves out
  // I/O threads with which it must be registered: io_uring counts it against RLIMIT_MEMLOCK once
  // for each. 0 = need not be.
  std::uint32_t registrations = 0;
};

// kNoMemory, with the sum and the limit written out, when the plan cannot be held.
SPILLWAY_API Result<void> check_plan(const std::vector<PlannedMemory>& plan,
                                     const MemoryLimits& limits);

struct MemoryUsage {
  std::uint64_t resident_bytes = 0;       // VmRSS + huge pages
  std::uint64_t peak_resident_bytes = 0;  // VmHWM + the most huge pages seen by these calls so far
  std::uint64_t huge_page_bytes = 0;      // HugetlbPages, which the kernel leaves out of VmRSS
};
// Of this process, now and at its peak.
SPILLWAY_API MemoryUsage memory_usage();

// "1.5 GiB", "340.0 MiB", "12.0 KiB", "512 B": for messages.
SPILLWAY_API std::string format_bytes(std::uint64_t bytes);

}  // namespace spillway::pinned_pool
