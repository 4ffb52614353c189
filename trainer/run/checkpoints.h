// RunCheckpoints: the checkpoints of a run: from which one it goes on, when it saves, which stay.
//
// All ranks make one and call it together, on the thread that trains. Rank 0 alone changes what
// lies in the directory, and holds its lock. All calls block and throw Failure and Interrupted. The
// constructor's arguments outlive this.
#pragma once

#include <spillway/trainer/checkpoint_save.h>
#include <spillway/trainer/checkpoint_states.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/run.h>
#include <spillway/trainer/zero_engine.h>
#include "trainer/checkpoint/directory.h"
#include "trainer/checkpoint/files.h"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace spillway::trainer {

// The checkpoint that a run with these options goes on from; empty: a fresh start. Throws Failure
// (kInvalid) where the options forbid what is there.
std::filesystem::path choose_checkpoint(const CheckpointOptions& options,
                                        const SettingNames& names);

// `value` in as few digits as give the same number back, without an exponent from 1e-4 to 1e16:
// "0.0003", "1e-05". Checkpoints keep it, and a resumed run compares it.
std::string shortest_text(double value);

class RunCheckpoints {
 public:
  // Locks the directory, removes what a killed run left, and opens the checkpoint to go on from.
  RunCheckpoints(const RunInput& input, Communicator& ranks, RunObserver& observer);

  bool will_resume() const noexcept { return from_.has_value(); }
  // Loads that checkpoint, if there is one, and checks that what the run will save has room.
  // Returns the steps that are done.
  std::uint64_t resume(ZeroEngine& engine);
  // Begins a save if one is due: within the next step, when its states are quiet anyway. The save
  // goes on beside training; one that is due before it ends waits for it. Returns true if a flag of
  // any rank asked to stop: then it has saved, as it has after the last step.
  bool after_step(ZeroEngine& engine);

 private:
  struct Saving {
    std::unique_ptr<CheckpointSave> save;
    std::chrono::steady_clock::time_point start;
    double stopped_seconds = 0;  // training waited
  };

  bool writes() const { return !options_.directory.empty(); }
  void open_directory();
  void open(const std::filesystem::path& path);
  // Loads from_. Returns the steps that are done.
  std::uint64_t load(ZeroEngine& engine);
  void advise_differences(const std::map<std::string, std::string>& saved) const;
  void check_room(ZeroEngine& engine, std::uint64_t done);
  void tell_cost(std::uint64_t each) const;
  CheckpointFacts facts_after(std::uint64_t step) const;
  std::map<std::string, std::string> training_facts() const;
  void begin_save(ModelStates& states, const CheckpointFacts& facts, double waited_seconds);
  // Moves the save on; with `wait` until it is complete.
  void go_on(bool wait);
  // Adds the way out, if a bad checkpoint is not the only one.
  Failure refusal(const Error& error, const std::filesystem::path& path) const;

  const RunInput& input_;
  const CheckpointOptions& options_;
  Communicator& ranks_;
  RunObserver& observer_;
  std::unique_ptr<CheckpointFiles> files_ = make_checkpoint_files();
  std::optional<CheckpointDirectory> directory_;  // of rank 0
  std::optional<Checkpoint> from_;
  std::optional<Saving> saving_;
  std::uint64_t samples_before_ = 0;  // seen until `done_before_`
  std::uint64_t done_before_ = 0;
};

}  // namespace spillway::trainer
