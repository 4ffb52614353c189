// StoreSpec: what StateTiers knows of a store before it makes its tier. Internal to StateTiers.
#pragma once

#include "trainer/states/state_tiers.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <vector>

namespace spillway::trainer {

// One of the two stores, as configured.
struct StateTiers::StoreSpec {
  const char* name;
  swapper::Layout layout;
  const std::vector<std::uint64_t>& tiles;
  const OffloadConfig& offload;
  std::shared_ptr<swapper::DirectoryLock> lock;
  pinned_pool::Pool* pool = nullptr;  // of buffers for its tiles, where they are moved
  std::uint64_t max_in_cpu_elements = 0;
  bool two_generations = false;  // of each tile on files

  bool caches_what_is_free() const {
    return offload.device == OffloadDevice::kNvme &&
           offload.max_in_cpu_elements == OffloadConfig::kAutoCache;
  }
  std::uint64_t elements() const {
    return std::accumulate(tiles.begin(), tiles.end(), std::uint64_t{0});
  }
  std::uint64_t largest_elements() const {
    return tiles.empty() ? 0 : *std::max_element(tiles.begin(), tiles.end());
  }
  std::uint64_t largest_bytes() const {
    return tiles.empty() ? 0 : layout.tile_bytes(largest_elements());
  }
  // Bytes on files: all but what the configuration keeps in RAM.
  std::uint64_t nvme_bytes() const {
    if (caches_what_is_free() || elements() == 0) return all_bytes();
    const std::uint64_t in_ram = std::min(max_in_cpu_elements, elements());
    return static_cast<std::uint64_t>(static_cast<double>(all_bytes()) *
                                      static_cast<double>(elements() - in_ram) /
                                      static_cast<double>(elements()));
  }
  std::uint64_t all_bytes() const {
    std::uint64_t bytes = 0;
    for (const std::uint64_t elements : tiles) bytes += layout.tile_bytes(elements);
    return bytes;
  }
};

}  // namespace spillway::trainer
