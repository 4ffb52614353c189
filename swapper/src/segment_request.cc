#include "segment_request.h"

#include <utility>

namespace spillway::swapper {

bool SegmentRequest::done() const noexcept {
  const MutexLock guard(mutex_);
  return completion_.has_value();
}

std::optional<std::chrono::steady_clock::time_point> SegmentRequest::ended() const noexcept {
  const MutexLock guard(mutex_);
  return ended_;
}

void SegmentRequest::expedite() noexcept {
  if (ticket_.valid()) ticket_.expedite();
}

void SegmentRequest::cancel() noexcept {
  if (ticket_.valid()) ticket_.cancel();
}

void SegmentRequest::when_done(std::function<void()> function) {
  {
    const MutexLock guard(mutex_);
    if (!ended_) {
      when_done_ = std::move(function);
      return;
    }
  }
  function();
}

std::optional<aio::Completion> SegmentRequest::wait_until(
    std::chrono::steady_clock::time_point deadline) {
  MutexLock guard(mutex_);
  changed_.wait_running_until(guard, deadline,
                              [&]() SPILLWAY_REQUIRES(mutex_) { return completion_.has_value(); });
  return std::exchange(completion_, std::nullopt);
}

void SegmentRequest::complete(aio::Completion completion) {
  std::function<void()> when_done;
  {
    const MutexLock guard(mutex_);
    completion_ = std::move(completion);
    ended_ = std::chrono::steady_clock::now();
    changed_.notify_all();
    when_done = std::exchange(when_done_, nullptr);
  }
  if (when_done) when_done();
}

}  // namespace spillway::swapper
