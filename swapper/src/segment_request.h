// SegmentRequest: one request in flight on a segment file. Threads: the engine's completes it; one
// at a time uses the rest. Ownership: shared by the waiter and the engine's callback.
#pragma once

#include <spillway/aio/engine.h>
#include <spillway/aio/mutex.h>
#include <chrono>
#include <functional>
#include <optional>

namespace spillway::swapper {

class SegmentRequest {
 public:
  bool done() const noexcept;
  // Makes a read urgent.
  void expedite() noexcept;
  // Cancels a read.
  void cancel() noexcept;
  // Calls `function` once it is complete: on the thread that completes it, or at once.
  void when_done(std::function<void()> function);
  // Returns the time of completion; nothing if it is not complete.
  std::optional<std::chrono::steady_clock::time_point> ended() const noexcept;
  // Blocks until the request is complete; returns nothing at the deadline, and the engine then
  // keeps the memory.
  std::optional<aio::Completion> wait_until(std::chrono::steady_clock::time_point deadline);

 private:
  friend class SegmentFiles;
  void complete(aio::Completion completion);

  mutable Mutex mutex_;
  CondVar changed_;
  std::optional<aio::Completion> completion_ SPILLWAY_GUARDED_BY(mutex_);
  std::optional<std::chrono::steady_clock::time_point> ended_ SPILLWAY_GUARDED_BY(mutex_);
  std::function<void()> when_done_ SPILLWAY_GUARDED_BY(mutex_);
  // For `expedite` and `cancel`. It lives until the request has completed: dropping it would
  // cancel.
  aio::Ticket ticket_;
};

}  // namespace spillway::swapper
