// NUMA placement by hwloc.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <cstddef>

namespace spillway::pinned_pool {

// NUMA nodes of this machine; 1 when it has no NUMA.
SPILLWAY_API int numa_node_count();
// Binds the pages of the memory to one node. kInvalid when there is no such node, kUnsupported
// when the kernel forbids binding.
SPILLWAY_API Result<void> bind_to_node(void* memory, std::size_t size_bytes, int numa_node);
// Node the page at `memory` lies on, -1 when unknown.
SPILLWAY_API int node_of(const void* memory);

}  // namespace spillway::pinned_pool
