// What a training run tells while it runs: a status line (or a progress bar on a terminal) and a
// JSON object per step. Rank 0 alone makes one.
#pragma once

#include <spillway/trainer/config.h>
#include <spillway/trainer/zero_engine.h>

#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

namespace spillway::tools {

struct StepFigures {
  trainer::StepReport report;
  std::uint64_t tokens = 0;  // of the global batch
  std::optional<double> eval_loss;
};

class TrainMetrics {
 public:
  struct Options {
    std::string path;         // empty: no file
    std::uint64_t steps = 0;  // of the run
    std::uint64_t done = 0;   // of them, when it goes on from a checkpoint
    std::uint64_t steps_per_print = 1;
    trainer::TunedDrive tuned;      // the drive's speeds, which ...
    std::uint32_t local_ranks = 1;  // ... so many ranks of this machine share
  };
  // An existing file is replaced only when it holds metrics of an earlier run; anything else is
  // refused. A run that goes on keeps the lines of the steps that are done. Throws
  // trainer::Failure.
  explicit TrainMetrics(Options options);

  // Throws trainer::Failure when the file cannot be written (a full disk).
  void step(const StepFigures& figures);
  // A line of text, between those of steps.
  void say(const std::string& text);
  // Ends the progress bar's line.
  void finish();

 private:
  void write_json(const StepFigures& figures);
  std::string status_line(const StepFigures& figures) const;

  Options options_;
  std::ofstream file_;
  std::uint64_t memory_bytes_;  // what this process may use: the cgroup's limit or the machine's
  double seconds_ = 0;          // of all steps so far
  bool terminal_;
  bool bar_open_ = false;
};

}  // namespace spillway::tools
