// Progress: one line that is overwritten on a terminal, or a plain line now and then elsewhere. It
// goes to stderr, so that a pipe gets only the result.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace spillway::aio_bench {

class Progress {
 public:
  Progress();
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `what`: "phase" or "phase: more"; a new phase gets a plain line at once. `seconds_left`: of
  // all; empty: not known.
  void show(const std::string& what, std::optional<double> seconds_left = std::nullopt);
  // Ends the line, so that other output starts on a line of its own.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  bool terminal_;
  bool open_ = false;
  Clock::time_point last_plain_;
  std::string last_phase_;
};

}  // namespace spillway::aio_bench
