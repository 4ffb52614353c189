// CheckpointSave: one checkpoint on its way, beside training.
//
// Training stops while one is made: what lies on files is sealed (the next update goes elsewhere)
// and linked or noted, what lies in memory is copied. The rest (fdatasync, copies to another
// filesystem, the index) goes on in a thread of its own, and what makes it a checkpoint, the
// manifest and the rename, when every rank is done. All ranks make and ask it together, on the
// thread that trains; they throw Failure and Interrupted. After a failure, or when it is dropped
// before it is complete, what was written is removed.
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
  // `directory`/step-N. REQUIRES: as save_checkpoint; no other one of these states is on its way.
  // The states and `files` outlive this.
  CheckpointSave(ModelStates& states, const CheckpointFacts& facts,
                 const std::filesystem::path& directory, CheckpointFiles& files);
  ~CheckpointSave();
  CheckpointSave(const CheckpointSave&) = delete;
  CheckpointSave& operator=(const CheckpointSave&) = delete;

  // Whether it is a checkpoint now; moves on what waits for all ranks. Does not block for I/O.
  bool poll();
  // Waits until it is. Interrupted soon after `stop` says so (on one rank: the others then fail).
  void finish(const std::function<bool()>& stop = {});

  const std::filesystem::path& path() const noexcept { return finished_; }
  // Lines worth telling: how it had to be saved.
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
  std::future<void> work_;  // of this rank, in this phase
};

}  // namespace spillway::trainer
