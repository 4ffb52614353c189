// The trace of a training run: made when asked for, written however the run ends.
#pragma once

#include <spillway/trainer/trace.h>

#include <optional>
#include <string>

#include "tools/spillway/train/options.h"

namespace spillway::tools {

class TrainTrace {
 public:
  // Writes an empty trace, so that a wrong path is told before the run, and `path` is a valid trace
  // even when the run is killed. Throws trainer::Failure. Does nothing unless a trace is wanted and
  // this process `leads`.
  TrainTrace(const TrainOptions& options, bool leads);
  // Of a run that failed or was interrupted: what there is of it; a failure is said on stderr.
  ~TrainTrace();
  TrainTrace(const TrainTrace&) = delete;
  TrainTrace& operator=(const TrainTrace&) = delete;

  trainer::Trace* get() noexcept { return trace_ ? &*trace_ : nullptr; }
  // Throws trainer::Failure.
  void write();

 private:
  std::string path_;
  std::string process_;
  std::optional<trainer::Trace> trace_;
  bool written_ = false;
};

}  // namespace spillway::tools
