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

#include <spillway/trainer/checkpoint_states.h>
#include <spillway/trainer/communicator.h>
#include "trainer/checkpoint/format/manifest.h"

#include <chrono>
#include <exception>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

namespace spillway::trainer {

class ShardJob;

class CheckpointSave {
 public:
  // Starts to write `directory`/step-N. REQUIRES: as save_checkpoint; no other save of these states
  // is running.
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

  const std::filesystem::path& path() const noexcept { return finished_; }
  // Returns lines for the user about the way it was saved.
  const std::vector<std::string>& notes() const noexcept { return notes_; }

 private:
  enum class Phase { kShards, kPublishing, kComplete };

  void begin(ModelStates& states, const CheckpointFacts& facts);
  void publish();
  [[noreturn]] void fail(std::exception_ptr failure, double failed);
  void start(std::function<void()> work);
  void remove_unfinished() noexcept;

  Communicator* ranks_;
  CheckpointFiles& files_;
  std::filesystem::path finished_;
  std::filesystem::path unfinished_;
  CheckpointManifest manifest_;  // without shards
  std::unique_ptr<ShardJob> job_;
  std::vector<std::string> notes_;
  Phase phase_ = Phase::kShards;
  std::future<void> work_;  // this rank's, in this phase
};

}  // namespace spillway::trainer
