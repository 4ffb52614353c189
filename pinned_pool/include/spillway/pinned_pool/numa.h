// NUMA placement of memory, by hwloc. Threads: any.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>

namespace spillway::pinned_pool {

// Returns the number of NUMA nodes; 1 if the machine has no NUMA.
SPILLWAY_API int numa_node_count();
// Returns the memory of a node that is free or that the kernel can free at once; nothing if
// unknown.
SPILLWAY_API std::optional<std::uint64_t> node_available_bytes(
    int numa_node, const std::filesystem::path& sysfs = "/sys");
// Binds the pages of `memory` to one node, strictly: what the node has no room for is not placed on
// another one, and the OOM killer ends the process. So compare with node_available_bytes first (a
// Slab does), unless the pages are there already. kInvalid if there is no such node, kUnsupported
// if the kernel forbids binding.
SPILLWAY_API Result<void> bind_to_node(void* memory, std::size_t size_bytes, int numa_node);
// Returns the node of the page at `memory`, -1 if unknown.
SPILLWAY_API int node_of(const void* memory);

}  // namespace spillway::pinned_pool
