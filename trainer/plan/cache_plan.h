// What of the states that live on NVMe is kept in RAM too, when `max_in_cpu` is "auto".
//
// All that is free but for what the rank will take otherwise and a margin, shared by the machine's
// ranks: weights first, for a step moves each byte of them up to four times, then optimizer states
// (twice). Pure arithmetic but for free_ram_bytes; no torch.
#pragma once

#include <spillway/pinned_pool/limits.h>
#include <cstdint>
#include <string>

namespace spillway::trainer {

// What the process may still take, of its cgroup and of the machine; of what may be locked when
// `must_be_locked`.
std::uint64_t free_ram_bytes(const pinned_pool::MemoryLimits& limits, bool must_be_locked);

// A store whose tiles may be cached.
struct CacheableStore {
  std::uint64_t elements = 0;
  std::uint64_t bytes = 0;  // of all its tiles; 0: it is not to be cached, or not by "auto"
};

struct CacheNeeds {
  std::uint64_t free_bytes = 0;   // before anything of what follows is taken
  std::uint32_t local_ranks = 1;  // they share it, and need as much each
  std::uint64_t other_bytes = 0;  // of this rank: buffers, gradients, weights in use
  CacheableStore weights = {};
  CacheableStore optimizer = {};
};

struct CachePlan {
  std::uint64_t weight_elements = 0;
  std::uint64_t optimizer_elements = 0;
  std::uint64_t margin_bytes = 0;  // of the machine, that stay free
  std::string note;                // for the user; empty when there is nothing to cache
};

CachePlan plan_cache(const CacheNeeds& needs);

// A quarter of what is free, 512 MiB at least: for activations, the heap, and what other programs
// start to need.
std::uint64_t cache_margin_bytes(std::uint64_t free_bytes);

}  // namespace spillway::trainer
