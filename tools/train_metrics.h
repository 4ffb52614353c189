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
  // `tuned`: the drive's speeds, which all `local_ranks` of this machine share.
  // Opens `path` (empty: no file). An existing file is replaced only when it holds metrics of an
  // earlier run; anything else is refused. Throws trainer::Failure.
  TrainMetrics(const std::string& path, std::uint64_t steps, std::uint64_t steps_per_print,
               const trainer::TunedDrive& tuned, std::uint32_t local_ranks);

  // Throws trainer::Failure when the file cannot be written (a full disk).
  void step(const StepFigures& figures);
  // Ends the progress bar's line.
  void finish();

 private:
  void write_json(const StepFigures& figures);
  std::string status_line(const StepFigures& figures) const;

  std::string path_;
  std::ofstream file_;
  std::uint64_t steps_;
  std::uint64_t steps_per_print_;
  trainer::TunedDrive tuned_;
  std::uint32_t local_ranks_;
  std::uint64_t memory_bytes_;  // what this process may use: the cgroup's limit or the machine's
  double seconds_ = 0;          // of all steps so far
  bool terminal_;
  bool bar_open_ = false;
};

}  // namespace spillway::tools
