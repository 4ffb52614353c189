// The readers of /proc and cgroup files. Input: the files of the list below, parted by 0xff.
// Kernels and containers differ; nothing they show may crash us or make a plan pass by overflow.
#include <spillway/aio/check.h>
#include <spillway/pinned_pool/limits.h>

#include <fstream>

#include "support/scratch.h"

namespace {

const char* const kPaths[] = {"proc/self/status",
                              "proc/self/limits",
                              "proc/meminfo",
                              "proc/self/uid_map",
                              "proc/self/cgroup",
                              "proc/self/mountinfo",
                              "sys/fs/cgroup/a/memory.max",
                              "sys/fs/cgroup/a/memory.current",
                              "sys/fs/cgroup/a/memory.stat",
                              "sys/fs/cgroup/memory.limit_in_bytes"};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace spillway::pinned_pool;
  static const spillway::Scratch scratch;
  std::string text(reinterpret_cast<const char*>(data), size);
  for (const char* name : kPaths) {
    const std::filesystem::path path = scratch / name;
    std::filesystem::create_directories(path.parent_path());
    const std::string file = text.substr(0, text.find('\xff'));
    text.erase(0, std::min(text.size(), file.size() + 1));
    std::ofstream(path, std::ios::binary) << file;
  }
  const MemoryLimits limits = MemoryLimits::read(scratch.path());
  SPILLWAY_CHECK(limits.locked_bytes >= limits.registered_bytes, "the larger of two counts");
  const auto all =
      check_plan({{.what = "x", .bytes = ~std::uint64_t{0} - 1, .locked = true}}, limits);
  const bool unlimited = limits.memlock_bytes == MemoryLimits::kUnlimited &&
                         limits.cgroup_limit_bytes == MemoryLimits::kUnlimited &&
                         limits.available_bytes >= ~std::uint64_t{0} - 1;
  SPILLWAY_CHECK(unlimited || !all, "a plan of 2^64 bytes passes under a limit");
  SPILLWAY_CHECK(all || !all.error().detail.empty(), "a refusal without its sum");
  SPILLWAY_CHECK(check_plan({}, limits).has_value(), "nothing does not fit");
  return 0;
}
