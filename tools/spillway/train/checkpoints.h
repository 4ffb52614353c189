// The checkpoints of a training run: from which one it goes on, when it saves, which ones stay.
//
// All ranks make one and call it together; rank 0 alone prints, and changes what lies in the
// directory. Errors are thrown as trainer::Failure.
#pragma once

#include <spillway/trainer/checkpoint_directory.h>
#include <spillway/trainer/checkpoint_save.h>
#include <spillway/trainer/checkpoint_states.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/zero_engine.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "tools/spillway/train/options.h"

namespace spillway::tools {

void add_checkpoint_options(CLI::App& command, TrainOptions& options);

class TrainCheckpoints {
 public:
  // Locks the directory, removes what a killed run left, and opens the checkpoint to go on from.
  // `say` prints a line.
  TrainCheckpoints(const TrainOptions& options, const TrainInputs& inputs,
                   trainer::Communicator& ranks, std::function<void(const std::string&)> say);

  // Whether there is one to go on from.
  bool will_resume() const noexcept { return from_.has_value(); }
  // Loads that checkpoint, if there is one, and makes sure that what the run will save has room.
  // Returns the steps that are done.
  std::uint64_t resume(trainer::ZeroEngine& engine);
  // Saves where it is due: within the next step, when its states are quiet anyway, or at once where
  // there is none; what of it need not stop training goes on beside. One that is due while another
  // is on its way waits for that. Returns whether the run shall end now, as a signal to any rank
  // asked; it is saved then, as after the last step.
  bool after_step(trainer::ZeroEngine& engine);

 private:
  bool writes() const { return !options_.checkpoint_dir.empty(); }
  void open_directory();
  // Where to go on from; empty: a fresh start.
  std::filesystem::path choose() const;
  void open(const std::filesystem::path& path);
  void check_space(trainer::ZeroEngine& engine, std::uint64_t done);
  void tell_cost(std::uint64_t each) const;
  trainer::CheckpointFacts facts_after(std::uint64_t step) const;
  void begin_save(trainer::ModelStates& states, const trainer::CheckpointFacts& facts,
                  double waited_seconds);
  // Asks after the one that is on its way; with `wait` until it is complete.
  void go_on(bool wait);
  std::map<std::string, std::string> training_facts() const;
  void tell(const std::string& line) const;
  // With the way out, where a bad checkpoint is not the only one.
  trainer::Failure refusal(const Error& error, const std::filesystem::path& path) const;

  const TrainOptions& options_;
  const TrainInputs& inputs_;
  trainer::Communicator& ranks_;
  std::function<void(const std::string&)> say_;
  trainer::KeepRule keep_;
  std::unique_ptr<trainer::CheckpointFiles> files_ = trainer::make_checkpoint_files();
  std::optional<trainer::CheckpointDirectory> directory_;  // of rank 0
  std::optional<trainer::Checkpoint> from_;
  struct OnItsWay {
    std::unique_ptr<trainer::CheckpointSave> save;
    std::chrono::steady_clock::time_point start;
    double stopped_seconds = 0;  // training waited
  };
  std::optional<OnItsWay> on_its_way_;
  std::uint64_t samples_before_ = 0;  // seen until `done_before_`
  std::uint64_t done_before_ = 0;
};

}  // namespace spillway::tools
