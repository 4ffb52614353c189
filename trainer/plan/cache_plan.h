// CachePlan: how much of the states on NVMe to cache in RAM when `max_in_cpu` is "auto".
//
// It uses all free RAM except a margin and the rank's other needs; the machine's ranks share it.
// Weights come first, because a step moves each byte of them up to four times, then optimizer
// states (twice). Pure arithmetic, except for free_ram_bytes.
#pragma once

#include <spillway/pinned_pool/limits.h>
#include <cstdint>
#include <string>

namespace spillway::trainer {

// Returns the RAM that the process may still take, of its cgroup and of the machine; that it may
// lock, if `must_be_locked`.
std::uint64_t free_ram_bytes(const pinned_pool::MemoryLimits& limits, bool must_be_locked);

// A store whose tiles may be cached.
struct CacheableStore {
  std::uint64_t elements = 0;
  std::uint64_t bytes = 0;  // of all its tiles; 0: not cached, or not by "auto"
};

struct CacheNeeds {
  std::uint64_t free_bytes = 0;   // before the memory below is taken
  std::uint32_t local_ranks = 1;  // they share it, and each needs as much
  std::uint64_t other_bytes = 0;  // of this rank: buffers, gradients, weights in use
  CacheableStore weights = {};
  CacheableStore optimizer = {};
};

struct CachePlan {
  std::uint64_t weight_elements = 0;
  std::uint64_t optimizer_elements = 0;
  std::uint64_t margin_bytes = 0;  // of the machine; stays free
  std::string note;                // for the user; empty if there is nothing to cache
};

// Plans the caches of a rank.
CachePlan plan_cache(const CacheNeeds& needs);

// Returns a quarter of the free bytes, at least 512 MiB: for activations, the heap, and other
// programs.
std::uint64_t cache_margin_bytes(std::uint64_t free_bytes);

}  // namespace spillway::trainer
