// TraceFile: the trace of a run, written however the run ends.
#pragma once

#include <spillway/trainer/run.h>
#include <spillway/trainer/trace.h>

#include <optional>

namespace spillway::trainer {

class TraceFile {
 public:
  // Writes an empty trace: so a wrong path fails before the run, and the file is a valid trace even
  // if the run is killed. Throws Failure. The observer outlives this.
  TraceFile(const TraceFileOptions& options, RunObserver& observer);
  // Writes the trace of a run that failed or was interrupted, and tells the observer if it cannot.
  ~TraceFile();
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;

  Trace& trace() noexcept { return trace_; }
  // Throws Failure.
  TraceWritten write();

 private:
  const TraceFileOptions options_;
  RunObserver& observer_;
  Trace trace_;
  bool written_ = false;
};

}  // namespace spillway::trainer
