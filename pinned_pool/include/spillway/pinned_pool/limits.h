// MemoryLimits: the memory limits of this process, and the check of a plan against them.
//
// The OOM killer gives no message. So every large allocation is planned, added up, and refused,
// with the arithmetic in the message, if it exceeds a limit. All figures include huge pages. Memory
// that a Slab has mapped and nobody has touched yet counts as taken; other mappings do not.
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
  // Already counted against memlock. The kernel compares two counts with the limit, each alone:
  // VmLck for mlock, VmPin for memory registered with io_uring. This is the larger one.
  std::uint64_t locked_bytes = 0;
  std::uint64_t registered_bytes = 0;  // VmPin alone
  // The limit of the cgroup with the least free memory, from this process's own up to the root:
  // memory.max, or a lower memory.high, above which the kernel slows a process to a halt.
  std::uint64_t cgroup_limit_bytes = kUnlimited;
  // Charged to that cgroup, without the file cache that the kernel can drop, plus this process's
  // huge pages if the cgroup does not count them.
  std::uint64_t cgroup_used_bytes = 0;
  std::string cgroup_path = {};                // the file of that limit, empty if there is none
  std::uint64_t available_bytes = kUnlimited;  // MemAvailable
  std::uint64_t free_huge_page_bytes = 0;      // of the default size, not reserved by others
  std::uint64_t huge_page_bytes = 0;           // default huge page size, 0 = none
  // Mapped by slabs of this process and not touched yet, so that no figure above has it.
  std::uint64_t untouched_bytes = 0;

  // Reads /proc and the cgroup v1 or v2 files under `root` (tests pass another root).
  static MemoryLimits read(const std::filesystem::path& root = "/");
};

struct PlannedMemory {
  std::string what;  // "optimizer buffers 4 x 40.0 MiB"
  std::uint64_t bytes = 0;
  bool locked = false;      // must fit into RLIMIT_MEMLOCK
  bool huge_pages = false;  // may use the free huge pages, which MemAvailable does not include
  // Number of I/O threads to register it with: io_uring counts it against RLIMIT_MEMLOCK once for
  // each. 0 = none.
  std::uint32_t registrations = 0;
};

// Checks `plan` against `limits`; kNoMemory, with the sum and the limit, if it does not fit.
SPILLWAY_API Result<void> check_plan(const std::vector<PlannedMemory>& plan,
                                     const MemoryLimits& limits);

struct MemoryUsage {
  std::uint64_t resident_bytes = 0;       // VmRSS + huge pages
  std::uint64_t peak_resident_bytes = 0;  // VmHWM + the most huge pages seen by these calls so far
  std::uint64_t huge_page_bytes = 0;      // HugetlbPages, which the kernel leaves out of VmRSS
};
// Returns the memory of this process, now and at its peak.
SPILLWAY_API MemoryUsage memory_usage();

// Formats for messages: "1.5 GiB", "340.0 MiB", "12.0 KiB", "512 B".
SPILLWAY_API std::string format_bytes(std::uint64_t bytes);

}  // namespace spillway::pinned_pool
