// MappedMemory: one mapping of a slab, counted for check_plan until it goes.
//
// The kernel charges a page when it is touched. Until then a mapping is a promise that neither
// MemAvailable nor a cgroup's count knows of. Threads: any.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spillway::pinned_pool {

class MappedMemory {
 public:
  MappedMemory() = default;
  MappedMemory(const MappedMemory&) = delete;
  MappedMemory& operator=(const MappedMemory&) = delete;
  ~MappedMemory() { forget(); }

  // Counts the mapping from now on. REQUIRES: it counts none yet.
  void count(std::byte* data, std::size_t size_bytes, int numa_node);
  // Stops counting it. To be called before it is unmapped.
  void forget() noexcept;

 private:
  friend std::uint64_t bytes_not_touched(int numa_node);
  std::uint64_t untouched() noexcept;

  std::byte* data_ = nullptr;
  std::size_t size_bytes_ = 0;
  int numa_node_ = -1;    // the node that it is bound to
  bool touched_ = false;  // all of it, once: it is not looked at again
};

// Returns the bytes that are mapped and not touched, of all mappings or of those bound to one node.
// Blocks for some ms a GiB, as long as such pages are left.
std::uint64_t bytes_not_touched(int numa_node = -1);

}  // namespace spillway::pinned_pool
