// NUMA placement of memory, by hwloc. Threads: any.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <cstddef>

namespace spillway::pinned_pool {

// Returns the number of NUMA nodes; 1 if the machine has no NUMA.
SPILLWAY_API int numa_node_count();
// Binds the pages of `memory` to one node. kInvalid if there is no such node, kUnsupported if the
// kernel forbids binding.
SPILLWAY_API Result<void> bind_to_node(void* memory, std::size_t size_bytes, int numa_node);
// Returns the node of the page at `memory`, -1 if unknown.
SPILLWAY_API int node_of(const void* memory);

}  // namespace spillway::pinned_pool
