// Saving a model's states as a checkpoint, and loading them back.
//
// Saving streams this rank's tiles, in whatever tier they are, to a shard of its own, in bounded
// memory, and publishes by the rename of a directory: until then the checkpoint before is the
// newest one, and stays. Loading takes the elements it needs from any shards, so ranks, tile sizes
// and places may be others than those that saved: the same bits. All ranks call these together;
// when one fails, all do. They block, and throw Failure and Interrupted.
#pragma once

#include <spillway/trainer/checkpoint.h>
#include "trainer/checkpoint/files.h"
#include "trainer/states/model_states.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace spillway::trainer {

// What the states do not know.
struct CheckpointFacts {
  std::uint64_t step = 0;  // steps done
  std::uint64_t samples_seen = 0;
  std::string model = {};  // saved_model(config); empty: of no family
  std::map<std::string, std::string> training = {};
};

// What saving would write, all ranks together, a little less than this. A collective call.
std::uint64_t checkpoint_bytes(ModelStates& states);

// Writes `directory`/step-N. REQUIRES: no update is under way; no checkpoint of this name is there.
// kNoSpace with the arithmetic before a byte is written. On failure what was written is removed.
void save_checkpoint(ModelStates& states, const CheckpointFacts& facts,
                     const std::filesystem::path& directory, CheckpointFiles& files);

// Replaces all states. Refuses (kInvalid) another model, optimizer, number format or seed, and
// names the difference. Returns what the user should know, a line each. REQUIRES: no update is
// under way, and nobody holds or reads weights.
std::vector<std::string> load_checkpoint(ModelStates& states, Checkpoint& checkpoint);

}  // namespace spillway::trainer
