// Trace: what a run did when: spans of time in lanes, kept in memory, written as Chrome's trace
// event format (which Perfetto and chrome://tracing open, and `spillway trace` draws).
//
// A null Trace* is no trace: a TraceSpan then costs one branch. Any thread may add spans; nothing
// is allocated for one. The memory is mapped at the start and touched as it fills; spans that find
// it full are counted and left out. Spans are kept between begin_step and end_step of the steps
// that were asked for. A Trace must outlive the engine and the threads that add to it.
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
// "step", "compute", ...: the lane's name in the file.
const char* name_of(Lane lane);

// What a span was about; what is not known is left out of the file.
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

  explicit Trace(const TraceOptions& options);
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  // Whether spans are kept just now. Any thread.
  bool recording() const noexcept { return recording_.load(std::memory_order_relaxed); }
  // `name` must live as long as the Trace: a literal. Any thread; does nothing when not recording.
  void add(Lane lane, const char* name, Clock::time_point start, Clock::time_point end,
           const TraceArgs& args = {}) noexcept;
  // By the training thread. The step becomes a span of its own lane.
  void begin_step(std::uint64_t step) noexcept;
  void end_step() noexcept;

  // What the engine shall be made with: its operations become spans of kRead and kWrite.
  aio::IoObserver io_observer() noexcept;
  // What the units are called, so that "forward" of unit 3 is "forward transformer.h.2".
  void name_units(std::vector<std::string> names) { unit_names_ = std::move(names); }

  std::size_t kept() const noexcept;
  std::uint64_t dropped() const noexcept;
  // Writes what is there: to a new file that then replaces `path`, so that `path` is never half a
  // trace. A device or a pipe is written as it is. Blocks. `process`: what it was a trace of.
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

// Whether `path` may be written as a trace: it does not exist, or is a trace, or is no regular
// file. Otherwise kInvalid: what else is there is left alone.
Result<void> check_trace_path(const std::filesystem::path& path);

// A span from its construction to its end, and an NVTX range in builds with CUDA.
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
