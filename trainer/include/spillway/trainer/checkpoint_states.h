// A model's states: saved as a checkpoint, loaded from one, or begun with given weights.
//
// Saving streams this rank's tiles, from whatever tier they are in, to a shard of its own, in
// bounded memory, and publishes by the rename of a directory: until then the checkpoint before is
// the newest one, and stays. Loading takes the elements it needs from any shards, so the ranks,
// tile sizes and places may differ from those that saved: the same bits. All ranks call these
// functions together; if one fails, all do. They block, and throw Failure and Interrupted.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/trainer/checkpoint.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace spillway::trainer {

class CheckpointFiles;
class ModelStates;

// What the states do not know.
struct CheckpointFacts {
  std::uint64_t step = 0;  // steps done
  std::uint64_t samples_seen = 0;
  std::string model = {};  // saved_model(config); empty: of no family
  std::map<std::string, std::string> training = {};
};

// Returns what saving would write, on all ranks together, or a little more. A collective call.
std::uint64_t checkpoint_bytes(ModelStates& states);

// Writes `directory`/step-N. REQUIRES: no update is running; no checkpoint has this name.
// Fails with kNoSpace and the arithmetic before it writes a byte. On failure it removes what it
// wrote.
void save_checkpoint(ModelStates& states, const CheckpointFacts& facts,
                     const std::filesystem::path& directory);
// The same, with other calls than the filesystem's own: for tests.
void save_checkpoint(ModelStates& states, const CheckpointFacts& facts,
                     const std::filesystem::path& directory, CheckpointFiles& files);

// Replaces all states. Refuses (kInvalid) another model, optimizer, number format or seed, and
// names the difference. Returns lines for the user. REQUIRES: no update is running, and no
// weights are in use.
std::vector<std::string> load_checkpoint(ModelStates& states, Checkpoint& checkpoint);

// Copies values [first, first + to.size()) of a flattened parameter to `to`, by the parameter's
// full name ("transformer.h.3.ln_1.weight"). One thread calls it.
using WeightSource = std::function<Result<void>(const std::string& parameter, std::uint64_t first,
                                                std::span<float> to)>;

// Replaces all weights by those of `source`, and all optimizer states by zeros, tile by tile. The
// master weights are the source's values exactly. REQUIRES: as load_checkpoint().
void set_initial_weights(ModelStates& states, const WeightSource& source);

}  // namespace spillway::trainer
