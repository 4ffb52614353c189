// Ticket: a handle on one request in flight. Completion: its outcome.
//
// Threads: any thread may use a Ticket, one at a time. A callback must not call `wait`, `wait_for`
// or `wait_until` for its own engine. In a forked child a Ticket of the parent is `done`, `wait`
// returns kInvalid without a Buffer, and the other calls do nothing (OwnerProcess).
#pragma once

#include <spillway/aio/buffer.h>
#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace spillway::aio {

struct Completion {
  Buffer buffer;                        // the memory of the request
  Result<std::size_t> transferred = 0;  // all requested bytes, or the failure
};

enum class Priority : std::uint8_t {
  kNormal,  // in order
  kUrgent,  // before all normal requests: a thread waits for it
};

struct PendingRequest;

// Ticket: a move-only handle on one request; may outlive the Engine. Dropping it cancels the
// request; its Buffer is released once the kernel is done with it. For a request without a waiting
// thread, use a callback.
class [[nodiscard]] SPILLWAY_API Ticket {
 public:
  Ticket() = default;
  Ticket(Ticket&&) noexcept;
  Ticket& operator=(Ticket&&) noexcept;
  ~Ticket();

  bool valid() const noexcept { return request_ != nullptr; }
  // True if `wait` would return at once. Does not block.
  bool done() const noexcept;
  // Blocks until the request is complete and consumes the Ticket. REQUIRES: `valid()`.
  Completion wait();
  // Blocks until the request is complete, at most for `timeout`. True if it is complete: `wait`
  // then returns at once. The Ticket stays valid. REQUIRES: `valid()`.
  bool wait_for(std::chrono::nanoseconds timeout);
  // As `wait`, but cancels at the deadline and returns kDeadline. The Completion then has an empty
  // Buffer: the engine keeps the memory until the kernel is done with it.
  Completion wait_until(std::chrono::steady_clock::time_point deadline);

  // Cancels the request. Does not block; may be called again. Pieces that have not started are
  // dropped; the kernel is asked to cancel the others. The request then completes with its Buffer:
  // with kCancelled, or normally if it was too late. REQUIRES: `valid()`.
  void cancel();
  // Makes the pieces that have not started urgent. REQUIRES: `valid()`.
  void expedite();

 private:
  friend class Engine;
  explicit Ticket(PendingRequest* request) noexcept : request_(request) {}
  PendingRequest* request_ = nullptr;
};

}  // namespace spillway::aio
