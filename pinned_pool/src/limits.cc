#include "spillway/pinned_pool/limits.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>

#include "mapped_memory.h"
#include "proc_files.h"

namespace spillway::pinned_pool {

std::optional<std::string> read_text(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::optional<std::string_view> word_after(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (!line.starts_with(key)) continue;
    line.remove_prefix(key.size());
    const std::size_t begin = line.find_first_not_of(" \t");
    // "VmRSS" must not match "VmRSSmore".
    if (begin == std::string_view::npos || (begin == 0 && !key.ends_with(':'))) continue;
    return line.substr(begin, line.find_first_of(" \t", begin) - begin);
  }
  return std::nullopt;
}

namespace {

std::optional<std::uint64_t> to_number(std::string_view word) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc{} || end == word.data()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<std::uint64_t> number_after(std::string_view text, std::string_view key) {
  const auto word = word_after(text, key);
  if (!word) return std::nullopt;
  const auto value = to_number(*word);
  const std::string_view rest = text.substr(word->data() + word->size() - text.data());
  return value && rest.starts_with(" kB") ? *value * 1024 : value;
}

std::optional<std::uint64_t> read_number(const std::filesystem::path& path) {
  const auto text = read_text(path);
  return text ? to_number(*text) : std::nullopt;
}

namespace {

constexpr int kCapIpcLock = 14;  // linux/capability.h

// A capability held in a user namespace (rootless containers) does not lift RLIMIT_MEMLOCK: the
// kernel asks for it in the first namespace, whose map is the identity over all ids.
bool may_lock_without_limit(const std::filesystem::path& root, std::string_view status) {
  const auto mask = word_after(status, "CapEff:");
  if (!mask) return false;
  std::uint64_t capabilities = 0;
  std::from_chars(mask->data(), mask->data() + mask->size(), capabilities, 16);
  if ((capabilities >> kCapIpcLock & 1) == 0) return false;
  const auto uid_map = read_text(root / "proc/self/uid_map");
  if (!uid_map) return true;
  std::istringstream map(*uid_map);
  std::uint64_t inside = 0, outside = 0, count = 0;
  return map >> inside >> outside >> count && inside == 0 && outside == 0 && count == 0xffffffff;
}

void read_locking(const std::filesystem::path& root, MemoryLimits& limits) {
  const std::string status = read_text(root / "proc/self/status").value_or("");
  limits.registered_bytes = number_after(status, "VmPin:").value_or(0);
  limits.locked_bytes =
      std::max(number_after(status, "VmLck:").value_or(0), limits.registered_bytes);
  if (may_lock_without_limit(root, status)) return;
  const std::string all = read_text(root / "proc/self/limits").value_or("");
  // Columns: soft, hard. "unlimited" is no number.
  limits.memlock_bytes = number_after(all, "Max locked memory").value_or(MemoryLimits::kUnlimited);
}

void read_system(const std::filesystem::path& root, MemoryLimits& limits) {
  const std::string meminfo = read_text(root / "proc/meminfo").value_or("");
  limits.available_bytes =
      number_after(meminfo, "MemAvailable:").value_or(MemoryLimits::kUnlimited);
  limits.huge_page_bytes = number_after(meminfo, "Hugepagesize:").value_or(0);
  const std::uint64_t free = number_after(meminfo, "HugePages_Free:").value_or(0);
  const std::uint64_t reserved = number_after(meminfo, "HugePages_Rsvd:").value_or(0);
  limits.free_huge_page_bytes = (free - std::min(free, reserved)) * limits.huge_page_bytes;
}

// Where the memory controller of this process is mounted, and which files it has there.
struct MemoryCgroup {
  std::string mount_point;  // as the process sees it, without the fake root
  std::string mount_root;   // which cgroup the mount shows at its top
  std::string path;         // cgroup of this process, from the hierarchy's own root
  bool v1 = false;
  bool counts_huge_pages = false;
};

// Whether `name` is one of the comma-separated `names`.
bool contains(std::string_view names, std::string_view name) {
  for (std::size_t begin = 0; begin <= names.size();) {
    const std::size_t end = std::min(names.find(',', begin), names.size());
    if (names.substr(begin, end - begin) == name) return true;
    begin = end + 1;
  }
  return false;
}

// "4:memory:/user/x" (v1) or "0::/user/x" (v2) in /proc/self/cgroup.
std::optional<std::string> cgroup_of_process(std::string_view text, bool v1) {
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string_view names = std::string_view(line).substr(first + 1, second - first - 1);
    const bool match = v1 ? contains(names, "memory") : names.empty();
    if (match) return line.substr(second + 1);
  }
  return std::nullopt;
}

// https://docs.kernel.org/filesystems/proc.html, 3.5: "36 35 98:0 /root /mount opts [fields] - type
// source superoptions". A v1 memory controller, where one is mounted, is the one in charge.
std::optional<MemoryCgroup> find_memory_cgroup(const std::filesystem::path& root) {
  const std::string own = read_text(root / "proc/self/cgroup").value_or("");
  std::istringstream lines(read_text(root / "proc/self/mountinfo").value_or(""));
  std::optional<MemoryCgroup> found;
  for (std::string line; std::getline(lines, line);) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream before(line.substr(0, dash)), after(line.substr(dash + 3));
    std::string skip, mount_root, mount_point, type, source, options;
    before >> skip >> skip >> skip >> mount_root >> mount_point;
    after >> type >> source >> options;
    const bool v1 = type == "cgroup" && contains(options, "memory");
    if (!v1 && (type != "cgroup2" || (found && found->v1))) continue;
    const auto path = cgroup_of_process(own, v1);
    if (!path) continue;
    const bool counted = contains(options, "memory_hugetlb_accounting");
    found = {mount_point, mount_root, *path, v1, counted};
  }
  return found;
}

// The cgroup's path below the mount point: the mount may show only a part of the hierarchy (a
// container), and then the path of the process starts with that part, or lies outside of it.
std::string below_mount(const MemoryCgroup& cgroup) {
  std::string_view path = cgroup.path;
  if (cgroup.mount_root != "/") {
    if (!path.starts_with(cgroup.mount_root)) return {};
    path.remove_prefix(cgroup.mount_root.size());
  }
  if (path.find("/..") != std::string_view::npos) return {};
  path.remove_prefix(std::min(path.find_first_not_of('/'), path.size()));
  return std::string(path);
}

std::uint64_t droppable_file_cache(const std::string& directory, bool v1) {
  const std::string stat = read_text(directory + "/memory.stat").value_or("");
  // v1 counts the cgroup alone under the plain names and its children too under total_*.
  const std::string prefix = v1 ? "total_" : "";
  return number_after(stat, prefix + "inactive_file").value_or(0) +
         number_after(stat, prefix + "active_file").value_or(0);
}

// v2 has two: at memory.high the kernel holds a process up, at memory.max it kills.
std::optional<std::uint64_t> cgroup_limit(const std::string& directory, bool v1) {
  if (v1) return read_number(directory + "/memory.limit_in_bytes");
  const auto high = read_number(directory + "/memory.high");
  const auto max = read_number(directory + "/memory.max");
  return high && max ? std::min(*high, *max) : (high ? high : max);
}

void read_cgroup(const std::filesystem::path& root, MemoryLimits& limits) {
  const auto cgroup = find_memory_cgroup(root);
  if (!cgroup) return;
  const std::string status = read_text(root / "proc/self/status").value_or("");
  const std::uint64_t uncounted =
      cgroup->counts_huge_pages ? 0 : number_after(status, "HugetlbPages:").value_or(0);
  std::uint64_t least_room = MemoryLimits::kUnlimited;
  // Strings, as libstdc++ 12's path is destroyed twice when an allocation inside "/" fails.
  std::string below = below_mount(*cgroup);
  for (bool at_top = false; !at_top;) {
    at_top = below.empty();
    const std::string seen = cgroup->mount_point + (at_top ? "" : "/") + below;
    const std::string directory = root.native() + seen;
    below.resize(at_top || below.rfind('/') == below.npos ? 0 : below.rfind('/'));
    const auto limit = cgroup_limit(directory, cgroup->v1);
    // v1 has no word for "none": it shows the largest multiple of a page, about 2^63.
    if (!limit || *limit >= std::uint64_t{1} << 62) continue;
    const std::uint64_t charged =
        read_number(directory + (cgroup->v1 ? "/memory.usage_in_bytes" : "/memory.current"))
            .value_or(0);
    const std::uint64_t used =
        charged - std::min(charged, droppable_file_cache(directory, cgroup->v1)) + uncounted;
    const std::uint64_t room = *limit - std::min(*limit, used);
    if (room >= least_room) continue;
    least_room = room;
    limits.cgroup_limit_bytes = *limit;
    limits.cgroup_used_bytes = used;
    limits.cgroup_path = seen;
  }
}

}  // namespace

MemoryLimits read_limits_of_kernel(const std::filesystem::path& root) {
  MemoryLimits limits;
  read_locking(root, limits);
  read_system(root, limits);
  read_cgroup(root, limits);
  return limits;
}

MemoryLimits MemoryLimits::read(const std::filesystem::path& root) {
  MemoryLimits limits = read_limits_of_kernel(root);
  limits.untouched_bytes = bytes_not_touched();
  return limits;
}

}  // namespace spillway::pinned_pool
