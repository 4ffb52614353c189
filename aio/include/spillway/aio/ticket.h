// Ticket: one request under way, and Completion: how it ended.
//
// Any thread may use a Ticket, one at a time. wait() and wait_until() must not be called in a
// callback of the same engine.
#pragma once

#include <spillway/aio/buffer.h>
#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace spillway::aio {

struct Completion {
  Buffer buffer;                        // the memory the request consumed
  Result<std::size_t> transferred = 0;  // all bytes asked for, or the reason why not
};

enum class Priority : std::uint8_t {
  kNormal,  // in its turn
  kUrgent,  // before everything that is not: somebody waits for it
};

struct PendingRequest;

// Handle on one request; may outlive the Engine. Move-only. Dropping a Ticket abandons the request:
// it is cancelled, and its Buffer is released once the kernel has let go of it. For a request that
// nobody waits for, use a callback.
class [[nodiscard]] SPILLWAY_API Ticket {
 public:
  Ticket() = default;
  Ticket(Ticket&&) noexcept;
  Ticket& operator=(Ticket&&) noexcept;
  ~Ticket();

  bool valid() const noexcept { return request_ != nullptr; }
  // Whether wait() would return at once. Does not block.
  bool done() const noexcept;
  // Blocks until the request is complete and consumes the Ticket. REQUIRES: valid().
  Completion wait();
  // As wait, but gives up at the deadline with kDeadline: the request is abandoned, and its Buffer
  // stays with the engine until the kernel is done with it (the returned Buffer is empty).
  Completion wait_until(std::chrono::steady_clock::time_point deadline);

  // Asks for an early end; does not block, and may be called again. What has not started never
  // does; what the kernel has is cancelled where it can be. The request then completes with its
  // Buffer: with kCancelled, or as if nothing had been said where that came too late.
  // REQUIRES: valid().
  void cancel();
  // Makes the part that has not started urgent: somebody waits for it now. REQUIRES: valid().
  void expedite();

 private:
  friend class Engine;
  explicit Ticket(PendingRequest* request) noexcept : request_(request) {}
  PendingRequest* request_ = nullptr;
};

}  // namespace spillway::aio
