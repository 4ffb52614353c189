// Backend: the interface between the engine and the mechanism that moves the bytes (io_uring,
// a thread pool, the simulator of the tests).
//
// A Backend takes batches of block-sized operations and returns their completion values as they
// are; the Engine handles short transfers and errors. Every implementation passes
// tests/conformance. Threads: one engine thread owns it and makes all calls (SINGLE_ISSUER), but
// any thread may call `wake`.
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
  std::uint64_t user_data = 0;   // returned in the Event
  bool registered_file = false;  // `fd` was given to register_file and is still that file
  // Of a write: moves nothing, but writes back what the page cache holds of the range
  // (sync_file_range). Its result is 0 or -errno.
  bool write_back = false;
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

  // Takes operations from the front of `operations` and returns how many. Fewer than all means
  // that the queue is full for now; that is no error. Does not block. The operations start at the
  // latest with the next `reap`, so io_uring needs one system call for both.
  virtual std::size_t submit(std::span<const Operation> operations) = 0;

  // A timeout that never expires.
  static constexpr auto kForever = std::chrono::nanoseconds::max();

  // Fills `events` from the front and returns how many. Waits up to `timeout` for the first one.
  // Returns 0 after the timeout, after `wake`, or after a signal.
  virtual std::size_t reap(std::span<Event> events, std::chrono::nanoseconds timeout) = 0;

  // Asks the kernel to cancel all operations in flight, or the one with this `user_data`, at the
  // latest in the next `reap`. Best effort: their completions still arrive.
  virtual void cancel_all() = 0;
  virtual void cancel(std::uint64_t user_data) = 0;

  // Makes a waiting `reap` return soon, or the next one if none waits. Any thread.
  virtual void wake() noexcept = 0;

  // Registers `memory`, so that transfers inside it pin no pages. Operations are matched to
  // registered memory by address. Fails if a limit forbids it; unregistered memory still works.
  virtual Result<void> register_memory(std::span<std::byte> memory) = 0;
  // REQUIRES: nothing in flight inside the memory.
  virtual void unregister_memory(std::span<std::byte> memory) = 0;

  // Registers a descriptor (IORING_REGISTER_FILES). Best effort: without it, operations use the
  // descriptor itself.
  virtual void register_file(int fd) = 0;
  virtual void unregister_file(int fd) = 0;

  // System calls made so far to submit and reap (io_uring_enter, pread, pwrite).
  virtual std::uint64_t system_calls() const noexcept = 0;
};

// BackendFactory: makes the Backend of each engine thread.
class SPILLWAY_API BackendFactory {
 public:
  virtual ~BackendFactory() = default;
  // Makes a Backend that holds up to `queue_depth` operations in flight.
  // REQUIRES: called on the thread that will use the Backend.
  virtual Result<std::unique_ptr<Backend>> make(std::uint32_t queue_depth) = 0;
};

// Makes a ring for each thread.
SPILLWAY_API std::unique_ptr<BackendFactory> io_uring_backend();
// Makes a pread/pwrite thread pool of `queue_depth` threads, for machines that forbid io_uring.
SPILLWAY_API std::unique_ptr<BackendFactory> thread_pool_backend();

}  // namespace spillway::aio
