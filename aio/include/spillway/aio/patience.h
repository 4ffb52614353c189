// Patience: a deadline that only time in which this process runs brings nearer.
//
// A process may be stopped (Ctrl-Z, a paused container, a suspended machine) for longer than any
// timeout, while the device did all it was asked for. Whoever waits looks at the clock at least
// every second; a gap between two looks is time in which it did not run. Threads: one.
#pragma once

#include <algorithm>
#include <chrono>

namespace spillway::aio {

class Patience {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kLook{1000};
  // A machine under load wakes a thread late; what is later than this is a gap.
  static constexpr std::chrono::milliseconds kLate{500};
  // Looks at the clock for the first time.
  explicit Patience(Clock::time_point deadline = Clock::time_point::max())
      : deadline_(deadline), look_(Clock::now()) {}

  // Returns when to look again, at the latest: wait until then, and call `is_over`.
  Clock::time_point next_look() {
    look_ = std::min(deadline_, Clock::now() + kLook);
    return look_;
  }
  // True once the deadline has passed.
  bool is_over() {
    const Clock::time_point now = Clock::now();
    if (now - look_ > kLate && deadline_ != Clock::time_point::max()) deadline_ += now - look_;
    look_ = now;
    return now >= deadline_;
  }

  // `timeout` from now; any timeout, even one that no clock can count, is in the future.
  template <typename Rep, typename Period>
  static Clock::time_point after(std::chrono::duration<Rep, Period> timeout) {
    const Clock::time_point now = Clock::now();
    const std::chrono::duration<double> most = Clock::time_point::max() - now;
    if (std::chrono::duration<double>(timeout) >= most) return Clock::time_point::max();
    return now + std::chrono::duration_cast<Clock::duration>(timeout);
  }

 private:
  Clock::time_point deadline_;
  Clock::time_point look_;
};

}  // namespace spillway::aio
