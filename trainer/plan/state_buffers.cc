#include "trainer/plan/state_buffers.h"

#include <spillway/swapper/stream_buffers.h>
#include <algorithm>

namespace spillway::trainer {

std::size_t update_buffer_count(const Config& config, const TileCounts& counts) {
  if (counts.largest_bytes == 0) return 0;
  return std::min(swapper::stream_buffers(config.aio, counts.largest_bytes), counts.tiles);
}

std::size_t weight_buffer_count(const Config& config, const TileCounts& counts) {
  return std::min(update_buffer_count(config, counts), 2 * counts.max_unit_tiles);
}

}  // namespace spillway::trainer
