// Engine: moves any number of bytes between files and memory, many operations at a time.
//
// It splits a request into pieces of at most `block_size_bytes` and keeps up to `queue_depth`
// pieces in flight on each of `thread_count` threads. It resumes short transfers, retries EINTR and
// EAGAIN a bounded number of times, and completes every request exactly once, with its Buffer.
// Urgent requests go first, in their order; then reads and writes, each in their order, in
// proportion to the waiting bytes of either. An I/O takes no heap memory while at most 1024
// requests and Tickets are alive.
//
// Threads: any thread may submit, wait and poll. Callbacks run on an engine thread; they may submit
// but must not block. Ownership: the Engine outlives what is registered with it. In a forked child
// every request fails at once (OwnerProcess), and the destructor does nothing.
#pragma once

#include <spillway/aio/backend.h>
#include <spillway/aio/buffer.h>
#include <spillway/aio/callback.h>
#include <spillway/aio/engine_options.h>
#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <spillway/aio/file.h>
#include <spillway/aio/latency_histogram.h>
#include <spillway/aio/ticket.h>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace spillway::aio {

class SPILLWAY_API Engine {
 public:
  // Called once, on an engine thread, with the Buffer. Captures up to 64 bytes, without allocation.
  using Callback = aio::Callback;
  // Operations of urgent requests in flight on each thread, beyond `queue_depth`: an urgent request
  // waits for the device, not for a queue full of writes.
  static constexpr std::uint32_t kUrgentDepth = 4;
  static constexpr auto kNoDeadline = std::chrono::steady_clock::time_point::max();

  // Starts the threads. kAuto takes io_uring if the machine allows it, else the thread pool;
  // `choice()` says which and why. A named backend that is unavailable is an error.
  static Result<std::unique_ptr<Engine>> create(const EngineOptions& options);
  // Starts the threads with the caller's backend (the simulator of the tests).
  static Result<std::unique_ptr<Engine>> create(const EngineOptions& options,
                                                std::unique_ptr<BackendFactory> factory);
  // Cancels all requests in flight, waits for them, and completes each (kCancelled) with its
  // Buffer. If a dead device still has a Buffer after `drain_timeout`, that memory is leaked on
  // purpose, because the device may still write into it.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const EngineOptions& options() const noexcept;
  const char* backend_name() const noexcept;  // "io_uring", "threads", "simulator"
  const std::string& choice()
      const noexcept;  // "io_uring", or "threads: io_uring_setup: EPERM ..."

  struct Request {
    const File* file = nullptr;     // used during the call only; the request shares the descriptor
    std::uint64_t offset = 0;       // bytes from the start of the file
    std::size_t size_bytes = 0;     // any length; 0 completes at once
    std::size_t buffer_offset = 0;  // bytes from the start of the Buffer
    Priority priority = Priority::kNormal;
    // After it the request is cancelled and completes at once with kDeadline. If the kernel still
    // uses the memory, the Completion has an empty Buffer, and the engine releases the memory when
    // the kernel is done.
    std::chrono::steady_clock::time_point deadline = kNoDeadline;
  };
  // Moves bytes into or out of `buffer`. Blocks only while 1024 requests are pending, and never in
  // a callback. Offsets, lengths and memory may be unaligned: a page that a write covers in part
  // goes through the page cache and is written back at once, one that a read covers in part through
  // a bounce buffer. A write changes its bytes alone, and extends the file to its last byte at
  // most, whoever else writes other bytes: other Files, Engines and processes too. kInvalid, and
  // nothing moves, if it does not end within 2^63 - 1 bytes.
  // REQUIRES: buffer_offset + size_bytes <= buffer.capacity(); the file writable for a write.
  Ticket read(const Request& request, Buffer buffer);
  Ticket write(const Request& request, Buffer buffer);
  // As read(...).wait() and write(...).wait(), and cheaper for one request at a time: while the
  // engine is idle, the calling thread moves whole pages of at most one block itself, without a
  // change of threads. Block. REQUIRES: as above; not called in a callback of this Engine.
  Completion read_and_wait(const Request& request, Buffer buffer);
  Completion write_and_wait(const Request& request, Buffer buffer);
  // As above, with a callback instead of a Ticket.
  void read(const Request& request, Buffer buffer, Callback callback);
  void write(const Request& request, Buffer buffer, Callback callback);
  struct Submission {
    Direction direction = Direction::kRead;
    Request request;
    Buffer buffer;
    Callback callback;
  };
  // Starts many small requests with one wake-up of the engine's threads. Each as above, with its
  // callback; takes the Buffers and callbacks out of `batch`.
  void submit(std::span<Submission> batch);
  // Starts a request with a callback, and returns a Ticket for `cancel` and `expedite` only: `wait`
  // on it never returns, and dropping it cancels. If nothing of the request is in flight, `cancel`
  // runs the callback at once on the calling thread; within another callback, behind that one.
  Ticket start(Direction direction, const Request& request, Buffer buffer, Callback callback);

  // Registers `memory` with the backend of every thread. Blocks. After a failure the memory still
  // works unregistered; the Error names the limit. The kernel counts the memory against
  // RLIMIT_MEMLOCK once per thread.
  Result<void> register_memory(std::span<std::byte> memory);
  // REQUIRES: nothing in flight inside the memory.
  void unregister_memory(std::span<std::byte> memory);
  // Registers the descriptor, which saves the kernel a look-up per operation. Unregister it before
  // the File is dropped: until then its blocks stay in use even if the file is removed.
  void register_file(const File& file);
  void unregister_file(const File& file);

  EngineStats stats() const noexcept;
  // Returns the latency of each operation (at most `block_size_bytes`) so far, from submission to
  // completion. Empty without EngineOptions::measure_latency.
  LatencyHistogram latency(Direction direction) const noexcept;

 private:
  class SPILLWAY_LOCAL Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace spillway::aio
