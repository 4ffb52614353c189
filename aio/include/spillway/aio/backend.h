// Backend: the one seam between the engine and whatever moves the bytes.
//
// A Backend is owned and called by exactly one engine thread (SINGLE_ISSUER), except `wake`,
// which any thread may call. It takes batches of block-sized operations and gives back their
// completion values, unjudged: short transfers and -errno are the engine's business. Every
// implementation passes tests/conformance.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace spillway::aio {

enum class Direction : std::uint8_t { kRead, kWrite };

struct Operation {
  Direction direction = Direction::kRead;
  int fd = -1;
  std::byte* data = nullptr;
  std::uint32_t size_bytes = 0;
  std::uint64_t offset = 0;      // bytes from the start of the file
  std::uint64_t user_data = 0;   // handed back in the Event
  bool registered_file = false;  // `fd` was given to register_file and is still that file
};

struct Event {
  std::uint64_t user_data = 0;
  std::int32_t result = 0;  // bytes moved (may be short, may be 0), or -errno
};

class SPILLWAY_API Backend {
 public:
  virtual ~Backend() = default;

  // "io_uring", "threads", "simulator".
  virtual const char* name() const noexcept = 0;

  // Takes operations from the front of `operations` and returns how many; fewer than all means the
  // queue is full for now, and is no error. Does not block. What was taken is started at the
  // latest by the next reap (so io_uring needs one system call for both).
  virtual std::size_t submit(std::span<const Operation> operations) = 0;

  // A timeout that never comes.
  static constexpr auto kForever = std::chrono::nanoseconds::max();

  // Fills `events` from the front and returns how many. Waits up to `timeout` for the first one;
  // returns 0 when the time is over, `wake` was called, or a signal came.
  virtual std::size_t reap(std::span<Event> events, std::chrono::nanoseconds timeout) = 0;

  // Asks the kernel to give up on what is in flight, or on the operation with that user_data, at
  // the latest at the next reap. Best effort: completions still arrive.
  virtual void cancel_all() = 0;
  virtual void cancel(std::uint64_t user_data) = 0;

  // Makes a reap that waits return soon; where none waits, the next one. Any thread.
  virtual void wake() noexcept = 0;

  // Makes memory known to the backend so that transfers inside it pin no pages. Operations are
  // matched to registered memory by address. Fails when a limit forbids it; unregistered memory
  // still works.
  virtual Result<void> register_memory(std::span<std::byte> memory) = 0;
  // REQUIRES: nothing in flight inside the memory.
  virtual void unregister_memory(std::span<std::byte> memory) = 0;

  // Makes a descriptor known (IORING_REGISTER_FILES). Best effort: where it cannot be, operations
  // use the descriptor itself.
  virtual void register_file(int fd) = 0;
  virtual void unregister_file(int fd) = 0;

  // System calls made so far to submit and reap (io_uring_enter, pread, pwrite).
  virtual std::uint64_t system_calls() const noexcept = 0;
};

// Makes one Backend a thread.
class SPILLWAY_API BackendFactory {
 public:
  virtual ~BackendFactory() = default;
  // One that holds up to `queue_depth` operations in flight.
  // REQUIRES: called on the thread that will use the Backend.
  virtual Result<std::unique_ptr<Backend>> make(std::uint32_t queue_depth) = 0;
};

// A ring a thread.
SPILLWAY_API std::unique_ptr<BackendFactory> io_uring_backend();
// A pread/pwrite thread pool of `queue_depth` threads, for machines that forbid io_uring.
SPILLWAY_API std::unique_ptr<BackendFactory> thread_pool_backend();

}  // namespace spillway::aio
