// StateItems: the tiles of this rank's states in order, as items of a stream and as runs of
// parameters' elements. Internal to checkpoints.
#pragma once

#include <spillway/swapper/tile_stream.h>
#include <spillway/trainer/checkpoint_manifest.h>
#include "trainer/states/model_states.h"

#include <vector>

namespace spillway::trainer {

// Returns the model's parameters in the order of the units, which numbers them. A name has the
// unit's name in front.
std::vector<CheckpointParameter> list_parameters(const ModelStates& states);

// Reserves space for the next write of every tile that is sealed.
Result<void> make_writable(ModelStates& states);

struct StateItems {
  std::vector<swapper::Item> items;       // weights, and optimizer states unless frozen
  std::vector<CheckpointExtent> extents;  // of each item, its planes without a place
};
// Lists the tiles, for this access.
StateItems list_state_items(ModelStates& states, swapper::Access access);

}  // namespace spillway::trainer
