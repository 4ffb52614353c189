// What is being done and for how long: one line that is written over on a terminal, a plain line
// now and then elsewhere. To stderr, so that what is piped is the result alone.
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
  // So that other output starts on a line of its own.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  bool terminal_;
  bool open_ = false;
  Clock::time_point last_plain_;
  std::string last_phase_;
};

}  // namespace spillway::aio_bench
