// Trace: records spans of time in memory and writes them in Chrome's trace event format. Perfetto
// and chrome://tracing open it, and `spillway trace` draws it.
//
// A null Trace* records nothing: a TraceSpan then costs one branch. Any thread may add spans,
// without allocation: memory is mapped at construction and touched as it fills. When it is full,
// spans are dropped and counted. Spans are recorded between begin_step and end_step of the
// requested steps. A Trace must outlive the engine and the threads that add to it.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/io_observer.h>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace spillway::trainer {

enum class Lane : std::uint8_t { kStep, kCompute, kOptimizer, kCopy, kRead, kWrite, kWait };
inline constexpr std::size_t kLanes = 7;
// Returns the lane's name in the file: "step", "compute", ...
const char* name_of(Lane lane);

// Describes a span. Defaults are left out of the file.
struct TraceArgs {
  std::uint64_t bytes = 0;
  std::int32_t unit = -1;
  std::int32_t tile = -1;
};

struct TraceOptions {
  std::size_t capacity = std::size_t{1} << 20;  // spans, 48 bytes each
  std::uint64_t first_step = 1;
  std::uint64_t last_step = std::numeric_limits<std::uint64_t>::max();
};

class Trace {
 public:
  using Clock = std::chrono::steady_clock;

  // Maps the memory for the spans.
  explicit Trace(const TraceOptions& options);
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  // Returns whether spans are recorded now. Any thread.
  bool recording() const noexcept { return recording_.load(std::memory_order_relaxed); }
  // Adds a span, if recording. `name` must outlive the Trace: a literal. Any thread.
  void add(Lane lane, const char* name, Clock::time_point start, Clock::time_point end,
           const TraceArgs& args = {}) noexcept;
  // Mark a step, which becomes a span in a lane of its own. Training thread only.
  void begin_step(std::uint64_t step) noexcept;
  void end_step() noexcept;

  // Returns an observer for the engine: its operations become spans of kRead and kWrite.
  aio::IoObserver io_observer() noexcept;
  // Names the units, so that "forward" of unit 3 is written as "forward transformer.h.2".
  void name_units(std::vector<std::string> names) { unit_names_ = std::move(names); }

  std::size_t kept() const noexcept;
  std::uint64_t dropped() const noexcept;
  // Writes the spans to a new file, which then replaces `path`: `path` is never half a trace.
  // Writes a device or a pipe directly. `process` names the traced process. Blocks.
  Result<void> write(const std::filesystem::path& path, const std::string& process) const;

 private:
  struct Span;

  std::vector<const Span*> finished_spans() const;
  std::string as_json(const Span& span, std::uint32_t track) const;

  const TraceOptions options_;
  const Clock::time_point origin_;
  Span* spans_ = nullptr;
  std::atomic<std::uint64_t> next_{0};
  std::atomic<bool> recording_{false};
  std::uint64_t step_ = 0;
  Clock::time_point step_start_;
  std::vector<std::string> unit_names_;
};

// Checks that `path` may be overwritten by a trace: it does not exist, is a trace, or is no regular
// file. Otherwise kInvalid, so that no other file is lost.
Result<void> check_trace_path(const std::filesystem::path& path);

// Adds a span from its construction to its destruction; in builds with CUDA, an NVTX range as well.
class TraceSpan {
 public:
  // `trace` may be null.
  TraceSpan(Trace* trace, Lane lane, const char* name, const TraceArgs& args = {}) noexcept
      : trace_(trace != nullptr && trace->recording() ? trace : nullptr) {
    if (trace_ != nullptr) begin(lane, name, args);
  }
  ~TraceSpan() {
    if (trace_ != nullptr) end();
  }
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;

 private:
  void begin(Lane lane, const char* name, const TraceArgs& args) noexcept;
  void end() noexcept;

  Trace* trace_;
  Lane lane_ = Lane::kCompute;
  const char* name_ = "";
  TraceArgs args_;
  Trace::Clock::time_point start_;
};

}  // namespace spillway::trainer
