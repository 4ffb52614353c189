// Buffers: memory for the requests of every pass: allocated, filled with the pattern and locked
// once.
//
// Half of the buffers are only written from and never read into, so wrong data from a drive is
// never written back. Threads: one.
#pragma once

#include <spillway/aio/engine.h>
#include <spillway/pinned_pool/slab.h>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cell.h"
#include "pattern.h"

namespace spillway::aio_bench {

// The requests of a pass: much larger than a block, and several of them in the engine, so that its
// queues stay full while one is checked and the next one is made.
struct RequestPlan {
  std::uint64_t request_bytes = 0;  // a power of two
  std::size_t count = 0;            // pending at one time
};
RequestPlan plan_for(const Setting& setting);

class Buffers {
 public:
  // Allocates enough for each of the settings, on a NUMA node (-1: any).
  static Result<Buffers> create(const std::vector<Setting>& settings, const Pattern& pattern,
                                int numa_node = -1);
  // Returns the bytes that `create` would allocate.
  static std::uint64_t bytes_for(const std::vector<Setting>& settings);

  std::span<std::byte> source(std::size_t index) const { return at(2 * index); }
  std::span<std::byte> sink(std::size_t index) const { return at(2 * index + 1); }
  // Returns the memory of `count` sources and sinks.
  std::span<std::byte> memory_of(std::size_t count) const {
    return slab_.memory().first(2 * count * buffer_bytes_);
  }
  // Returns the huge pages and locked memory that were not available.
  const std::vector<std::string>& notes() const { return slab_.report(); }

 private:
  Buffers(pinned_pool::Slab slab, std::uint64_t buffer_bytes)
      : slab_(std::move(slab)), buffer_bytes_(buffer_bytes) {}
  std::span<std::byte> at(std::size_t index) const {
    return slab_.memory().subspan(index * buffer_bytes_, buffer_bytes_);
  }

  pinned_pool::Slab slab_;
  std::uint64_t buffer_bytes_;
};

}  // namespace spillway::aio_bench
