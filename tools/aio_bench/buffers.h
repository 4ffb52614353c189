// Memory for the requests of every pass: made, filled with the pattern and locked once.
//
// Half of the buffers are written from and never read into, so that what a drive returned wrongly
// is never written back as right. One thread.
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

// How a pass cuts its work: requests large beside a block, several of them in the engine, so that
// its queues stay full while one is checked and the next one made.
struct RequestPlan {
  std::uint64_t request_bytes = 0;  // a power of two
  std::size_t count = 0;            // pending at one time
};
RequestPlan plan_for(const Setting& setting);

class Buffers {
 public:
  // Enough for each of the settings, on a NUMA node (-1: any).
  static Result<Buffers> create(const std::vector<Setting>& settings, const Pattern& pattern,
                                int numa_node = -1);
  // What `create` would take.
  static std::uint64_t bytes_for(const std::vector<Setting>& settings);

  std::span<std::byte> source(std::size_t index) const { return at(2 * index); }
  std::span<std::byte> sink(std::size_t index) const { return at(2 * index + 1); }
  // The memory that `count` sources and sinks lie in.
  std::span<std::byte> memory_of(std::size_t count) const {
    return slab_.memory().first(2 * count * buffer_bytes_);
  }
  // What could not be had of huge pages and locked memory.
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
