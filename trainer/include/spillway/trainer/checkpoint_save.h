// CheckpointSave: a save that runs beside training.
//
// The constructor seals tiles on files (the next update writes elsewhere), links or notes them, and
// copies tiles in memory; training waits for that. A thread of its own then syncs, copies to
// another filesystem and writes the index. When all ranks are done, the manifest and the rename
// make it a checkpoint. After a failure, or if it is dropped before, its files are removed.
//
// Threads: the training thread makes all calls. They are collective, and throw Failure and
// Interrupted. Ownership: the states and `files` outlive it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace spillway::trainer {

class CheckpointFiles;
class ModelStates;
struct CheckpointFacts;

// The checkpoints to keep: the newest `newest` (0: all), and each `every`-th step (0: none).
struct KeepRule {
  std::uint64_t newest = 2;
  std::uint64_t every = 0;
};

class CheckpointSave {
 public:
  // Starts to write `directory`/step-N. REQUIRES: as save_checkpoint; no other save of these states
  // is running.
  CheckpointSave(ModelStates& states, const CheckpointFacts& facts,
                 const std::filesystem::path& directory);
  // The same, with other calls than the filesystem's own: for tests.
  CheckpointSave(ModelStates& states, const CheckpointFacts& facts,
                 const std::filesystem::path& directory, CheckpointFiles& files);
  ~CheckpointSave();
  CheckpointSave(const CheckpointSave&) = delete;
  CheckpointSave& operator=(const CheckpointSave&) = delete;

  // True if it is a checkpoint now. Takes the next step if all ranks are ready. Does not block for
  // I/O.
  bool poll();
  // Blocks until it is a checkpoint. Throws Interrupted soon after `stop` returns true (on one
  // rank: the others then fail).
  void finish(const std::function<bool()>& stop = {});

  const std::filesystem::path& path() const noexcept;
  // Returns lines for the user about the way it was saved.
  const std::vector<std::string>& notes() const noexcept;

 private:
  class Work;
  std::unique_ptr<CheckpointFiles> files_;  // unless the caller has its own
  std::unique_ptr<Work> work_;
};

}  // namespace spillway::trainer
