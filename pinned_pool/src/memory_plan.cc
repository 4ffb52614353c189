// check_plan, memory_usage and format_bytes of limits.h: arithmetic on figures, and its wording.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>

#include "proc_files.h"
#include "spillway/pinned_pool/limits.h"

namespace spillway::pinned_pool {
namespace {

constexpr std::uint64_t kMax = ~std::uint64_t{0};

std::uint64_t add(std::uint64_t a, std::uint64_t b) { return a > kMax - b ? kMax : a + b; }

struct Sum {
  std::uint64_t bytes = 0;
  std::string terms;  // "a 4 x 40.0 MiB (160.0 MiB) + b (70.0 MiB) = 230.0 MiB"
};

Sum add_up(const std::vector<PlannedMemory>& plan, bool locked_only) {
  Sum sum;
  std::size_t count = 0;
  std::string only;
  for (const PlannedMemory& item : plan) {
    if (locked_only && !item.locked) continue;
    sum.bytes = add(sum.bytes, item.bytes);
    only = item.what;
    sum.terms += (count++ == 0 ? "" : " + ") + item.what + " (" + format_bytes(item.bytes) + ")";
  }
  sum.terms = (count == 1 ? only : sum.terms) + " = " + format_bytes(sum.bytes);
  return sum;
}

std::uint64_t left(std::uint64_t limit, std::uint64_t used) {
  return limit == MemoryLimits::kUnlimited ? limit : limit - std::min(limit, used);
}

tl::unexpected<Error> refuse(const char* operation, const Sum& sum, std::uint64_t room,
                             const std::string& limit) {
  auto error = make_error(ErrorKind::kNoMemory, operation, "", sum.terms + ", but " + limit);
  error.value().wanted = sum.bytes;
  error.value().got = room;
  return error;
}

// What io_uring will count: "buffers 4 x 40.0 MiB (160.0 MiB) x 2 I/O threads = 320.0 MiB".
Sum add_up_registrations(const std::vector<PlannedMemory>& plan) {
  Sum sum;
  for (const PlannedMemory& item : plan) {
    if (item.registrations == 0) continue;
    for (std::uint32_t i = 0; i < item.registrations; ++i) sum.bytes = add(sum.bytes, item.bytes);
    sum.terms += (sum.terms.empty() ? "" : " + ") + item.what + " (" + format_bytes(item.bytes) +
                 ") x " + std::to_string(item.registrations) + " I/O thread" +
                 (item.registrations == 1 ? "" : "s");
  }
  sum.terms += " = " + format_bytes(sum.bytes);
  return sum;
}

Result<void> check_registrations(const std::vector<PlannedMemory>& plan,
                                 const MemoryLimits& limits) {
  const Sum registered = add_up_registrations(plan);
  const std::uint64_t room = left(limits.memlock_bytes, limits.registered_bytes);
  if (registered.bytes <= room) return {};
  return refuse("registered memory", registered, room,
                "RLIMIT_MEMLOCK leaves " + format_bytes(room) + " (limit " +
                    format_bytes(limits.memlock_bytes) + ", registered " +
                    format_bytes(limits.registered_bytes) +
                    "): raise it with 'ulimit -l', plan fewer I/O threads or smaller buffers, or "
                    "do without registration");
}

// ", 2.0 GiB mapped and not touched yet": how the messages of check_plan name it.
std::string untouched(const MemoryLimits& limits) {
  if (limits.untouched_bytes == 0) return "";
  return ", " + format_bytes(limits.untouched_bytes) + " mapped and not touched yet";
}

}  // namespace

Result<void> check_plan(const std::vector<PlannedMemory>& plan, const MemoryLimits& limits) {
  const Sum locked = add_up(plan, true);
  const std::uint64_t lockable = left(limits.memlock_bytes, limits.locked_bytes);
  if (locked.bytes > lockable) {
    return refuse("pinned memory", locked, lockable,
                  "RLIMIT_MEMLOCK leaves " + format_bytes(lockable) + " (limit " +
                      format_bytes(limits.memlock_bytes) + ", locked " +
                      format_bytes(limits.locked_bytes) +
                      "): raise it with 'ulimit -l' or do without pinned memory");
  }
  if (auto fits = check_registrations(plan, limits); !fits) return fits;
  const Sum all = add_up(plan, false);
  const std::uint64_t room =
      left(left(limits.cgroup_limit_bytes, limits.cgroup_used_bytes), limits.untouched_bytes);
  if (all.bytes > room) {
    return refuse("memory", all, room,
                  "the cgroup " + limits.cgroup_path + " leaves " + format_bytes(room) +
                      " (limit " + format_bytes(limits.cgroup_limit_bytes) + ", used " +
                      format_bytes(limits.cgroup_used_bytes) + untouched(limits) +
                      "): raise its memory limit or plan smaller buffers");
  }
  std::uint64_t on_huge_pages = 0;
  for (const PlannedMemory& item : plan) {
    if (item.huge_pages) on_huge_pages = add(on_huge_pages, item.bytes);
  }
  const std::uint64_t huge = std::min(on_huge_pages, limits.free_huge_page_bytes);
  const std::uint64_t free = add(left(limits.available_bytes, limits.untouched_bytes), huge);
  if (all.bytes > free) {
    return refuse("memory", all, free,
                  "this machine has " + format_bytes(limits.available_bytes) + " available" +
                      (huge > 0 ? " and " + format_bytes(huge) + " of free huge pages" : "") +
                      untouched(limits) + ": plan smaller buffers or free memory");
  }
  return {};
}

MemoryUsage memory_usage() {
  const std::string status = read_text("/proc/self/status").value_or("");
  MemoryUsage usage;
  usage.huge_page_bytes = number_after(status, "HugetlbPages:").value_or(0);
  usage.resident_bytes = number_after(status, "VmRSS:").value_or(0) + usage.huge_page_bytes;
  // The kernel keeps a high-water mark for VmRSS only.
  static std::atomic<std::uint64_t> most_huge_pages{0};
  std::uint64_t most = most_huge_pages.load();
  while (most < usage.huge_page_bytes &&
         !most_huge_pages.compare_exchange_weak(most, usage.huge_page_bytes)) {
  }
  usage.peak_resident_bytes =
      number_after(status, "VmHWM:").value_or(0) + std::max(most, usage.huge_page_bytes);
  return usage;
}

std::string format_bytes(std::uint64_t bytes) {
  if (bytes == MemoryLimits::kUnlimited) return "unlimited";
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  // 1023.95 KiB would print as "1024.0 KiB".
  while (value >= 1023.95 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%.1f %s", value, kUnits[unit]);
  return text.data();
}

}  // namespace spillway::pinned_pool
