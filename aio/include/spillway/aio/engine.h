// Engine: moves any number of bytes between files and memory, many operations at a time.
//
// A request is split into pieces of at most `block_size_bytes`; up to `queue_depth` pieces are in
// flight on each of `thread_count` threads, each with a Backend of its own. Short transfers go on
// from where they stopped; EINTR and EAGAIN are retried a bounded number of times; every request
// completes exactly once, with its Buffer. Offsets, lengths and memory may be unaligned: the
// unaligned edges go through a bounce buffer (a write then reads the edge block first, so two
// writes must not share an edge block at one time).
//
// What goes first: urgent requests, in the order they came; they also have kUrgentDepth operations
// on each thread beyond the queue_depth, so that one waits for the device, not for a queue full of
// writes. Then reads and writes, each in their order, mixed by how much of either is waiting.
// After start-up no heap memory is taken per I/O, as long as at most 1024 requests and their
// Tickets are alive at a time.
//
// Threads: any thread may submit, wait and poll. Callbacks run on an engine thread and must not
// block; they may submit. Destroying the Engine cancels what is in flight, waits for it, and
// completes every request (kCancelled) with its Buffer. What a dead device has not given back
// after `drain_timeout` is leaked on purpose: its Buffer is never released, for the device may
// still write there.
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
  // Called once, on an engine thread; gets the Buffer back. Captures up to 64 bytes, with no
  // allocation.
  using Callback = aio::Callback;
  // Operations that urgent requests may have in flight on each thread beyond the queue_depth.
  static constexpr std::uint32_t kUrgentDepth = 4;
  static constexpr auto kNoDeadline = std::chrono::steady_clock::time_point::max();

  // kAuto takes io_uring where the machine allows it, else the thread pool; `choice()` says which
  // and why. A backend that was named and cannot be had is an error.
  static Result<std::unique_ptr<Engine>> create(const EngineOptions& options);
  // With a backend of the caller's (the simulator of the tests).
  static Result<std::unique_ptr<Engine>> create(const EngineOptions& options,
                                                std::unique_ptr<BackendFactory> factory);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const EngineOptions& options() const noexcept;
  const char* backend_name() const noexcept;  // "io_uring", "threads", "simulator"
  const std::string& choice()
      const noexcept;  // "io_uring", or "threads: io_uring_setup: EPERM ..."

  struct Request {
    const File* file = nullptr;     // read during the call; the request shares it
    std::uint64_t offset = 0;       // bytes from the start of the file
    std::size_t size_bytes = 0;     // any length; 0 completes at once
    std::size_t buffer_offset = 0;  // bytes from the start of the Buffer
    Priority priority = Priority::kNormal;
    // Then the request is cancelled and completes at once with kDeadline, wherever it was. If the
    // kernel still has some of the memory, the Buffer of the Completion is empty, and the engine
    // releases it when the kernel lets go.
    std::chrono::steady_clock::time_point deadline = kNoDeadline;
  };
  // Moves bytes into / out of `buffer`. Blocks only while 1024 requests are pending (in a callback
  // never). A write past the end of the file extends it to the last byte written: the padding of
  // an unaligned last block is cut off again, unless another write past it is on its way.
  // REQUIRES: buffer_offset + size_bytes <= buffer.capacity(); the file writable for a write.
  Ticket read(const Request& request, Buffer buffer);
  Ticket write(const Request& request, Buffer buffer);
  // The same with a callback instead of a Ticket.
  void read(const Request& request, Buffer buffer, Callback callback);
  void write(const Request& request, Buffer buffer, Callback callback);
  // As read and write with a callback, and a Ticket for cancel() and expedite() alone: waiting on
  // it never ends, and dropping it cancels. A cancelled request of which nothing was in flight
  // calls back at once, on the thread that cancels.
  Ticket start(Direction direction, const Request& request, Buffer buffer, Callback callback);

  // Registers memory with every thread's backend. Blocks. On failure the memory works
  // unregistered; the Error says which limit forbids it. The kernel counts the memory against
  // RLIMIT_MEMLOCK once for each thread.
  Result<void> register_memory(std::span<std::byte> memory);
  // REQUIRES: nothing in flight inside the memory.
  void unregister_memory(std::span<std::byte> memory);
  // Saves the kernel the look-up of a descriptor. Unregister before the File is dropped: until
  // then its blocks stay in use even when it is removed.
  void register_file(const File& file);
  void unregister_file(const File& file);

  EngineStats stats() const noexcept;
  // From submission to completion of each operation (at most block_size_bytes) so far; empty
  // without EngineOptions::measure_latency.
  LatencyHistogram latency(Direction direction) const noexcept;

 private:
  class SPILLWAY_LOCAL Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace spillway::aio
