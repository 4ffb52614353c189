// The number of buffers for the tiles of a rank's states. Training and `estimate` share it.
#pragma once

#include <spillway/trainer/config.h>
#include <cstddef>
#include <cstdint>

namespace spillway::trainer {

// The most elements of a tile, whatever sub_group_size is: the capacity of the buffers.
inline constexpr std::uint64_t kMaxTileElements = std::uint64_t{1} << 20;

struct TileCounts {
  std::size_t tiles = 0;           // of the store
  std::size_t max_unit_tiles = 0;  // of the unit with the most
  std::size_t largest_bytes = 0;   // of one tile
};

// Returns the buffers of the update, which reads, computes and writes tiles in turn: as many as
// keep the drive busy (swapper::stream_buffers), and at most one per tile.
std::size_t update_buffer_count(const Config& config, const TileCounts& counts);
// Returns the buffers of forward and backward, which read one unit while they use another: the
// tiles of two units, but no more than keep the drive busy.
std::size_t weight_buffer_count(const Config& config, const TileCounts& counts);

}  // namespace spillway::trainer
