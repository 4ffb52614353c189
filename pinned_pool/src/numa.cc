#include "spillway/pinned_pool/numa.h"

#include <cerrno>
#include <utility>

#include "hwloc_handles.h"
#include "proc_files.h"

namespace spillway::pinned_pool {
namespace {

// Read once: it does not change, takes milliseconds, and hwloc's read-only calls are thread-safe.
hwloc_topology_t topology() {
  static const HwlocTopology loaded = [] {
    hwloc_topology_t made = nullptr;
    if (hwloc_topology_init(&made) != 0) return HwlocTopology();
    HwlocTopology owner(made);
    // Nodes and nothing else: caches, cores and devices are the slow part.
    hwloc_topology_set_all_types_filter(made, HWLOC_TYPE_FILTER_KEEP_NONE);
    return hwloc_topology_load(made) == 0 ? std::move(owner) : HwlocTopology();
  }();
  return loaded.get();
}

// The node whose number in sysfs is `numa_node`.
hwloc_obj_t find_node(int numa_node) {
  if (topology() == nullptr || numa_node < 0) return nullptr;
  return hwloc_get_numanode_obj_by_os_index(topology(), static_cast<unsigned>(numa_node));
}

}  // namespace

int numa_node_count() {
  if (topology() == nullptr) return 1;
  const int count = hwloc_get_nbobjs_by_type(topology(), HWLOC_OBJ_NUMANODE);
  return count > 0 ? count : 1;
}

// As the kernel computes MemAvailable, less its reserves, which only the whole machine shows.
std::optional<std::uint64_t> node_available_bytes(int numa_node,
                                                  const std::filesystem::path& sysfs) {
  const std::string node = std::to_string(numa_node);
  const auto text = read_text(sysfs / "devices/system/node" / ("node" + node) / "meminfo");
  if (!text) return std::nullopt;
  const auto free = number_after(*text, "Node " + node + " MemFree:");
  if (!free) return std::nullopt;
  std::uint64_t bytes = *free;
  for (const char* cache : {"Active(file):", "Inactive(file):", "SReclaimable:"}) {
    bytes += number_after(*text, "Node " + node + " " + cache).value_or(0);
  }
  return bytes;
}

Result<void> bind_to_node(void* memory, std::size_t size_bytes, int numa_node) {
  const hwloc_obj_t node = find_node(numa_node);
  if (node == nullptr) {
    return make_error(ErrorKind::kInvalid, "bind memory", "",
                      "NUMA node " + std::to_string(numa_node) +
                          " does not exist: this machine has " + std::to_string(numa_node_count()));
  }
  const int flags = HWLOC_MEMBIND_BYNODESET | HWLOC_MEMBIND_MIGRATE | HWLOC_MEMBIND_STRICT;
  if (hwloc_set_area_membind(topology(), memory, size_bytes, node->nodeset, HWLOC_MEMBIND_BIND,
                             flags) != 0) {
    // EPERM is what a container without CAP_SYS_NICE answers to mbind.
    const int cause = errno;
    auto error = errno_error("bind memory", "", cause, "NUMA node " + std::to_string(numa_node));
    error.value().kind = ErrorKind::kUnsupported;
    return error;
  }
  return {};
}

int node_of(const void* memory) {
  if (topology() == nullptr) return -1;
  const HwlocBitmap nodes(hwloc_bitmap_alloc());
  if (hwloc_get_area_memlocation(topology(), memory, 1, nodes.get(), HWLOC_MEMBIND_BYNODESET) !=
      0) {
    return -1;
  }
  return hwloc_bitmap_first(nodes.get());  // -1 when the page was never touched
}

}  // namespace spillway::pinned_pool
