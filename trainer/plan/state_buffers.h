// How many buffers move the tiles of a rank's states: the one place that training and its
// prediction (estimate) share. No torch.
#pragma once

#include <spillway/trainer/config.h>
#include <cstddef>
#include <cstdint>

namespace spillway::trainer {

// Elements a tile may have at most, whatever sub_group_size says: what the buffers hold.
inline constexpr std::uint64_t kMaxTileElements = std::uint64_t{1} << 20;

struct TileCounts {
  std::size_t tiles = 0;           // of the store
  std::size_t max_unit_tiles = 0;  // the most that one unit has
  std::size_t largest_bytes = 0;   // of one tile
};

// Of the update, which reads, computes and writes tiles in turn: those that keep the drive busy
// (swapper::stream_buffers), and no more than there are tiles.
std::size_t update_buffer_count(const Config& config, const TileCounts& counts);
// Of forward and backward, which read one unit while they use another: the tiles of two units, as
// far as the drive has use for them.
std::size_t weight_buffer_count(const Config& config, const TileCounts& counts);

}  // namespace spillway::trainer
