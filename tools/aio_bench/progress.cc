#include "progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace spillway::aio_bench {
namespace {

constexpr std::chrono::seconds kBetweenPlainLines{10};

}  // namespace

Progress::Progress() : terminal_(isatty(STDERR_FILENO) == 1) {}

void Progress::show(const std::string& what, std::optional<double> seconds_left) {
  std::string text = what;
  if (seconds_left) {
    const long left = std::lround(std::max(0.0, *seconds_left));
    text += fmt::format(", {}:{:02} left", left / 60, left % 60);
  }
  if (terminal_) {
    fmt::print(stderr, "\r\x1b[K{}", text);
    open_ = true;
    return;
  }
  const auto now = Clock::now();
  const std::string phase = what.substr(0, what.find(':'));
  if (phase == last_phase_ && now - last_plain_ < kBetweenPlainLines) return;
  last_phase_ = phase;
  last_plain_ = now;
  fmt::print(stderr, "aio_bench: {}\n", text);
}

void Progress::clear() {
  if (open_) fmt::print(stderr, "\r\x1b[K");
  open_ = false;
}

}  // namespace spillway::aio_bench
