// The tiles of this rank's states, one after another, as a stream wants them and as runs of
// parameters' elements. Internal to checkpoints.
#pragma once

#include <spillway/swapper/tile_stream.h>
#include "trainer/checkpoint/format/manifest.h"
#include "trainer/states/model_states.h"

#include <vector>

namespace spillway::trainer {

// Named as the model's parameters are: the unit's name before its own. In the units' order, which
// numbers them.
std::vector<CheckpointParameter> list_parameters(const ModelStates& states);

// Makes room for all tiles to be written once more, where sealing has left them for good.
Result<void> make_writable(ModelStates& states);

struct StateItems {
  std::vector<swapper::Item> items;       // weights; and optimizer states, unless frozen
  std::vector<CheckpointExtent> extents;  // of each item, its planes without a place
};
StateItems list_state_items(ModelStates& states, swapper::Access access);

}  // namespace spillway::trainer
