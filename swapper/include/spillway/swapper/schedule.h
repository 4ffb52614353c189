// Schedule: the order in which tiles will be needed, known in advance and repeated every step.
//
// Prefetch follows it; eviction takes the tile needed farthest in the future (Belady). So a cache
// of a share of the tiles saves that share of the traffic; LRU would save nothing on a cyclic scan.
// A pure data structure, without I/O. Immutable. Threads: any.
#pragma once

#include <spillway/aio/export.h>
#include <spillway/swapper/tier.h>
#include <cstdint>
#include <span>
#include <vector>

namespace spillway::swapper {

class SPILLWAY_API Schedule {
 public:
  // Makes the schedule of a step that repeats for ever: `uses` in order. A tile may occur several
  // times. REQUIRES: each below `tile_count`; here and below, a position is one of the step's.
  Schedule(std::vector<TileId> uses, std::uint32_t tile_count);

  std::span<const TileId> uses() const noexcept { return uses_; }
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};
  // Returns the number of uses from `position` to the tile's next use; 0 = at `position`, kNever if
  // the step does not use it.
  std::uint64_t distance_to_next_use(std::size_t position, TileId tile) const;
  // Returns the candidate with the farthest next use. REQUIRES: not empty.
  TileId farthest_next_use(std::size_t position, std::span<const TileId> candidates) const;
  // Returns the next `count` distinct tiles from `position` on, in order.
  std::vector<TileId> upcoming(std::size_t position, std::size_t count) const;

 private:
  std::vector<TileId> uses_;
  std::vector<std::vector<std::size_t>> positions_;  // of each tile, ascending
};

// Chooses the tiles to keep in RAM for good if `capacity_elements` fit: the most used first, evenly
// spread over the step among equals, then the largest that still fit. Spread, because the drive
// works while other tiles are computed: neighbouring resident tiles would leave it idle for a part
// of the step and overloaded for the rest. For tiles of one size no other fixed set saves more
// bytes. Tiles that the step does not use are not chosen. Deterministic.
SPILLWAY_API std::vector<bool> choose_resident(const Schedule& schedule,
                                               std::span<const std::uint64_t> tile_elements,
                                               std::uint64_t capacity_elements);

}  // namespace spillway::swapper
