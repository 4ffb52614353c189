// update_tile: the optimizer's update of one tile, by pieces that may differ in gradient memory and
// in constants. It knows neither tensors nor units: the caller says where everything lies.
//
// The bits do not depend on the executor, on the cut into pieces, or on where the tile lies.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/swapper/tile_stream.h>
#include "trainer/kernels/update.h"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace spillway::trainer {

struct TileUpdate {
  OptimizerFormat format;
  // In order and without gaps from the tile's first element to its last. Padding has a gradient of
  // zeros, too: what is zero stays zero.
  std::vector<UpdatePiece> pieces;
  std::uint32_t first_element = 0;  // see UpdatePlanes
};

// Calls task(0) to task(count - 1), on any threads in any order; returns when all have returned.
using Executor =
    std::function<void(std::uint64_t count, const std::function<void(std::uint64_t)>& task)>;
// On the calling thread.
void run_in_order(std::uint64_t count, const std::function<void(std::uint64_t)>& task);

// Updates a tile of weight_layout and of optimizer_layout, parts[0] and parts[1], in tasks of
// PartView::kRangeElements. Further parts are read only: memory that gradients lie in. Verifies
// what was read and records what is to be written. kCorrupt: then the tile is worth nothing.
Result<void> update_tile(const TileUpdate& update, std::span<const swapper::PartView> parts,
                         const Executor& run = run_in_order);

}  // namespace spillway::trainer
