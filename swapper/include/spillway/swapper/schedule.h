// Schedule: the order in which tiles will be needed, known ahead and repeated every step.
//
// Prefetch walks it forward; eviction takes what is needed farthest in the future (Belady), so a
// cache that holds a share of the tiles saves that share of the traffic. A cyclic scan under LRU
// would save nothing. Pure data structure: no I/O, no threads.
#pragma once

#include <spillway/aio/export.h>
#include <spillway/swapper/tier.h>
#include <cstdint>
#include <span>
#include <vector>

namespace spillway::swapper {

class SPILLWAY_API Schedule {
 public:
  // `uses` is one step's order; a tile may occur several times. The step repeats for ever.
  // REQUIRES: each below `tile_count`; here and below, a position is one of the step's.
  Schedule(std::vector<TileId> uses, std::uint32_t tile_count);

  std::span<const TileId> uses() const noexcept { return uses_; }
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};
  // How many uses after `position` (a position in the step) the tile is needed; 0 = right there,
  // kNever when the step does not use it.
  std::uint64_t distance_to_next_use(std::size_t position, TileId tile) const;
  // Which of `candidates` is needed farthest in the future. REQUIRES: not empty.
  TileId farthest_next_use(std::size_t position, std::span<const TileId> candidates) const;
  // The next `count` distinct tiles that are needed from `position` on, in order.
  std::vector<TileId> upcoming(std::size_t position, std::size_t count) const;

 private:
  std::vector<TileId> uses_;
  std::vector<std::vector<std::size_t>> positions_;  // of each tile, ascending
};

// Which tiles to hold in RAM for good when `capacity_elements` fit: the most used first, among
// equals evenly over the step, then the largest of what still fits. Evenly, for the drive works
// while the others are computed: were the resident ones neighbours, it would have nothing to do
// there, and too much for the rest of the step. With tiles of one size no other fixed set
// saves more bytes a step. Tiles the step does not use are not held. Same input, same answer.
SPILLWAY_API std::vector<bool> choose_resident(const Schedule& schedule,
                                               std::span<const std::uint64_t> tile_elements,
                                               std::uint64_t capacity_elements);

}  // namespace spillway::swapper
