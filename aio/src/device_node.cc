#include <spillway/aio/probe.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <system_error>

namespace spillway::aio {
namespace {

namespace fs = std::filesystem;

constexpr int kUnknown = -1;

int number_in(const fs::path& path) {
  std::ifstream file(path);
  int number = kUnknown;
  return file >> number ? number : kUnknown;
}

std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none)) found.push_back(entry.path());
  return found;
}

// The node that all of them are on.
int common(const std::set<int>& nodes) { return nodes.size() == 1 ? *nodes.begin() : kUnknown; }

int node_of(const std::string& name, const fs::path& sysfs, int depth) {
  std::error_code failure;
  const fs::path device = fs::canonical(sysfs / "class" / "block" / name, failure);
  const fs::path root = fs::canonical(sysfs, failure);
  constexpr int kDeepest = 8;  // LVM on dm-crypt on RAID has 3 levels; sysfs has no cycles
  if (failure || depth > kDeepest) return kUnknown;
  std::set<int> parts;
  for (const fs::path& part : entries(device / "slaves")) {
    parts.insert(node_of(part.filename().string(), sysfs, depth + 1));
  }
  if (!parts.empty()) return common(parts);
  for (fs::path at = device; at != root && at.has_relative_path(); at = at.parent_path()) {
    for (const char* file : {"numa_node", "device/numa_node"}) {
      if (const int node = number_in(at / file); node >= 0) return node;
    }
    // With multipath a drive hangs off its subsystem, and that names the controllers.
    if (!at.filename().string().starts_with("nvme-subsys")) continue;
    std::set<int> controllers;
    for (const fs::path& entry : entries(at)) {
      if (const int node = number_in(entry / "numa_node"); node >= 0) controllers.insert(node);
    }
    return common(controllers);
  }
  return kUnknown;
}

}  // namespace

int numa_node_of_device(const std::string& name, const fs::path& sysfs) {
  if (name.empty() || name.find('/') != std::string::npos) return kUnknown;
  return node_of(name, sysfs, 0);
}

}  // namespace spillway::aio
