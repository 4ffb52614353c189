#include "tools/spillway/train/trace.h"

#include <fmt/format.h>
#include <spillway/trainer/failure.h>

#include <charconv>

#include "tools/spillway/common/error_text.h"

namespace spillway::tools {
namespace {

// "3-5" or "3". Throws trainer::Failure.
trainer::TraceOptions steps_of(const std::string& text) {
  trainer::TraceOptions options;
  if (text.empty()) return options;
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, options.first_step);
  auto last = first;
  options.last_step = options.first_step;
  if (first.ec == std::errc() && first.ptr != end && *first.ptr == '-') {
    last = std::from_chars(first.ptr + 1, end, options.last_step);
  }
  if (first.ec == std::errc() && last.ec == std::errc() && last.ptr == end &&
      options.first_step > 0 && options.first_step <= options.last_step) {
    return options;
  }
  throw trainer::Failure(make_error(ErrorKind::kInvalid, "use --trace-steps " + text, "",
                                    "it must be a step or a range of steps from 1: 3-5")
                             .value());
}

}  // namespace

TrainTrace::TrainTrace(const TrainOptions& options, bool leads) : path_(options.trace) {
  const trainer::TraceOptions wanted = steps_of(options.trace_steps);
  if (path_.empty() || !leads) return;
  trainer::value_or_throw(trainer::check_trace_path(path_));
  process_ = fmt::format("spillway train, {}", options.model);
  trace_.emplace(wanted);
  trainer::value_or_throw(trace_->write(path_, process_));
}

TrainTrace::~TrainTrace() {
  if (!trace_ || written_) return;
  if (const auto done = trace_->write(path_, process_); !done) {
    fmt::print(stderr, "spillway train: {}\n", error_text(done.error()));
  }
}

void TrainTrace::write() {
  if (!trace_) return;
  written_ = true;
  trainer::value_or_throw(trace_->write(path_, process_));
  fmt::print("  {:<18}{} spans in {}; draw it: spillway trace {} -o trace.svg\n", "trace",
             trace_->kept(), path_, path_);
  if (trace_->dropped() == 0) return;
  fmt::print("  {:<18}{} more spans did not fit: trace fewer steps (--trace-steps)\n", "",
             trace_->dropped());
}

}  // namespace spillway::tools
