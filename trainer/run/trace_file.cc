#include "trainer/run/trace_file.h"

#include <spillway/trainer/failure.h>

namespace spillway::trainer {

TraceFile::TraceFile(const TraceFileOptions& options, RunObserver& observer)
    : options_(options), observer_(observer), trace_(options.trace) {
  value_or_throw(check_trace_path(options_.path));
  value_or_throw(trace_.write(options_.path, options_.process));
}

TraceFile::~TraceFile() {
  if (written_) return;
  const auto done = trace_.write(options_.path, options_.process);
  if (!done) observer_.trace_failed(done.error());
}

TraceWritten TraceFile::write() {
  written_ = true;
  value_or_throw(trace_.write(options_.path, options_.process));
  return {options_.path, trace_.kept(), trace_.dropped()};
}

}  // namespace spillway::trainer
