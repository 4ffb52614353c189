#include "tools/spillway/doctor/checks.h"

#include <fmt/format.h>
#include <spillway/pinned_pool/cuda_runtime.h>
#include <spillway/pinned_pool/numa.h>
#include <sys/utsname.h>
#include <torch/version.h>
#include <unistd.h>
#include <cstdlib>

namespace spillway::tools {
namespace {

using aio::Capability;
using pinned_pool::format_bytes;
using pinned_pool::MemoryLimits;

// What the buffers of a large model take (16 weight and 4 optimizer tiles of 2^20 elements: 72
// MiB), several times over. Less than this makes most runs fall back to memory that can be swapped.
constexpr std::uint64_t kUsefulLockedBytes = std::uint64_t{512} << 20;
constexpr std::uint64_t kUsefulBytes = std::uint64_t{1} << 30;

Capability make(std::string name, bool available, std::string reason, std::string fix) {
  return {.name = std::move(name),
          .available = available,
          .reason = std::move(reason),
          .fix = available ? std::string() : std::move(fix)};
}

Capability check_memlock(const MemoryLimits& limits) {
  const char* fix = "ulimit -l unlimited, or memlock in /etc/security/limits.conf";
  if (limits.memlock_bytes == MemoryLimits::kUnlimited) {
    return make("page-locked memory", true, "no limit", "");
  }
  return make("page-locked memory",
              limits.memlock_bytes >= limits.locked_bytes + kUsefulLockedBytes,
              fmt::format("RLIMIT_MEMLOCK {}, {} of it in use", format_bytes(limits.memlock_bytes),
                          format_bytes(limits.locked_bytes)),
              fix);
}

Capability check_cgroup(const MemoryLimits& limits) {
  if (limits.cgroup_limit_bytes == MemoryLimits::kUnlimited) {
    return make("memory of the cgroup", true, "no limit", "");
  }
  const std::uint64_t used = std::min(limits.cgroup_used_bytes, limits.cgroup_limit_bytes);
  return make("memory of the cgroup", limits.cgroup_limit_bytes - used >= kUsefulBytes,
              fmt::format("limit {} in {}, {} used", format_bytes(limits.cgroup_limit_bytes),
                          limits.cgroup_path, format_bytes(limits.cgroup_used_bytes)),
              "raise the container's memory limit: beyond it the kernel kills without a word");
}

Capability check_ram(const MemoryLimits& limits) {
  if (limits.available_bytes == MemoryLimits::kUnlimited) {
    return make("free memory", false, "MemAvailable is unknown", "mount /proc");
  }
  return make("free memory", limits.available_bytes >= kUsefulBytes,
              format_bytes(limits.available_bytes) + " available", "end other programs");
}

Capability check_huge_pages(const MemoryLimits& limits) {
  if (limits.huge_page_bytes == 0) {
    return make("huge pages", false, "this kernel has none", "");
  }
  const std::string size = format_bytes(limits.huge_page_bytes);
  if (limits.free_huge_page_bytes == 0) {
    return make("huge pages", false, "no free page of " + size + ": transparent ones are asked for",
                "sysctl vm.nr_hugepages=512");
  }
  return make(
      "huge pages", true,
      fmt::format("{} free in pages of {}", format_bytes(limits.free_huge_page_bytes), size), "");
}

Capability check_numa() {
  const int nodes = pinned_pool::numa_node_count();
  return make("NUMA placement", nodes > 0,
              nodes == 1 ? "1 node: nothing to place" : fmt::format("{} nodes by hwloc", nodes),
              "");
}

Capability check_cuda() {
  const pinned_pool::CudaStatus status = pinned_pool::cuda_status();
  return make(
      "CUDA device", status.device_count > 0,
      status.device_count > 0 ? fmt::format("{} visible", status.device_count) : status.reason,
      "install the driver and make the device visible; training on CPU works without");
}

Capability check_build() {
#ifdef SPILLWAY_CUDA
  return make("CUDA in this build", true, "--device cuda works", "");
#else
  return make(
      "CUDA in this build", false, "built for CPU",
      "build with a CUDA toolkit and a torch with CUDA (tools/setup.sh says which it took)");
#endif
}

Capability check_free_space(const aio::PathProbe& probe) {
  return make("free space", probe.free_bytes >= kUsefulBytes,
              fmt::format("{} of {} free ({})", format_bytes(probe.free_bytes),
                          format_bytes(probe.size_bytes),
                          probe.filesystem.empty() ? "unknown filesystem" : probe.filesystem),
              "choose another directory; spillway estimate says what a model needs");
}

// Searched by name, not run: a doctor starts no programs.
Capability check_fio() {
  const char* variable = std::getenv("PATH");
  std::string path = variable == nullptr ? "" : variable;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find(':', begin), path.size());
    const std::filesystem::path candidate =
        std::filesystem::path(path.substr(begin, end - begin)) / "fio";
    if (access(candidate.c_str(), X_OK) == 0) {
      return make("fio", true, candidate.string(), "");
    }
    begin = end + 1;
  }
  return make("fio", false, "not in PATH; only benchmarks compare with it", "apt-get install fio");
}

Capability kernel_version() {
  utsname name{};
  uname(&name);
  return make("Linux", true, fmt::format("{} {}", name.release, name.machine), "");
}

}  // namespace

std::vector<Capability> check_memory(const MemoryLimits& limits) {
  return {check_ram(limits), check_cgroup(limits), check_memlock(limits), check_huge_pages(limits)};
}

std::vector<CheckGroup> check_machine(const std::filesystem::path& directory) {
  std::vector<CheckGroup> groups;
  groups.push_back({"I/O", aio::probe_kernel()});
  groups.front().capabilities.insert(groups.front().capabilities.begin(), kernel_version());
  aio::PathProbe probe = aio::probe_path(directory);
  probe.capabilities.push_back(check_free_space(probe));
  groups.push_back({"disk of " + directory.string(), std::move(probe.capabilities)});
  groups.push_back({"memory", check_memory(MemoryLimits::read())});
  groups.back().capabilities.push_back(check_numa());
  groups.push_back(
      {"compute", {make("libtorch", true, TORCH_VERSION, ""), check_build(), check_cuda()}});
  groups.push_back({"tools", {check_fio()}});
  return groups;
}

}  // namespace spillway::tools
