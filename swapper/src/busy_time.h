// BusyTime: the time during which at least one of several overlapping transfers was in flight.
//
// Transfers start in the order of time and end in any order. Threads: one.
#pragma once

#include <spillway/aio/check.h>
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <optional>

namespace spillway::swapper {

class BusyTime {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // Starts a transfer; returns its number for `end`. REQUIRES: not before the start of another.
  std::size_t start(Time now) {
    open_.push_back({now, std::nullopt});
    return first_ + open_.size() - 1;
  }
  // Ends a transfer; without a time it took none. REQUIRES: started, and not ended yet.
  void end(std::size_t number, std::optional<Time> at) {
    Span& span = open_[number - first_];
    SPILLWAY_CHECK(!span.end, "a transfer ends once");
    span.end = at.value_or(span.start);
    // In the order of their starts each adds the part beyond those before it.
    for (; !open_.empty() && open_.front().end; open_.pop_front(), ++first_) {
      const Time from = std::max(open_.front().start, covered_to_);
      if (*open_.front().end <= from) continue;
      busy_ += *open_.front().end - from;
      covered_to_ = *open_.front().end;
    }
  }
  // Returns the busy time of transfers that have ended, as have all that started before them.
  double seconds() const { return std::chrono::duration<double>(busy_).count(); }

 private:
  struct Span {
    Time start;
    std::optional<Time> end;
  };
  std::deque<Span> open_;  // from the first that has not ended on
  std::size_t first_ = 0;  // number of the front
  Time covered_to_ = Time::min();
  Time::duration busy_{0};
};

}  // namespace spillway::swapper
