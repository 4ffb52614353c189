// Engine: moves any number of bytes between files and memory, many operations at a time.
//
// A request is split into pieces of at most `block_size_bytes`; up to `queue_depth` pieces are in
// flight on each of `thread_count` threads, each with a Backend of its own. Short transfers go on
// from where they stopped; EINTR and EAGAIN are retried a bounded number of times; every request
// completes exactly once, with its Buffer. Offsets, lengths and memory may be unaligned: the
// unaligned edges go through a bounce buffer (a write then reads the edge block first, so two
// writes must not share an edge block at one time).
//
// Threads: any thread may submit, wait and poll. Callbacks run on an engine thread and must not
// block; they may submit. Destroying the Engine cancels what is in flight, waits for it, and
// completes every request (kCancelled) with its Buffer. What a dead device has not given back
// after `drain_timeout` is leaked on purpose: its Buffer is never released, for the device may
// still write there.
#pragma once

#include <spillway/aio/backend.h>
#include <spillway/aio/buffer.h>
#include <spillway/aio/error.h>
#include <spillway/aio/file.h>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace spillway::aio {

enum class BackendKind { kAuto, kIoUring, kThreadPool };

struct EngineOptions {
  BackendKind backend = BackendKind::kAuto;
  std::uint32_t block_size_bytes = 1 << 20;  // a positive multiple of 4096, at most 1 GiB
  std::uint32_t queue_depth = 32;            // operations in flight per thread, 1 to 4096
  std::uint32_t thread_count = 1;            // 1 to 64
  bool single_submit = false;                // one system call per operation (DeepSpeed's knob)
  // How long the destructor waits for what is in flight before it gives the memory up for lost.
  std::chrono::milliseconds drain_timeout{10'000};
};

// What is wrong with the options, in words that name the field; kInvalid.
Result<void> validate(const EngineOptions& options);

struct EngineStats {
  std::uint64_t read_bytes = 0;     // bytes that reached their Buffer, bounce included
  std::uint64_t written_bytes = 0;  // bytes that left for the file
  std::uint64_t read_operations = 0;
  std::uint64_t write_operations = 0;
  std::uint64_t short_transfers = 0;
  std::uint64_t retries = 0;
  std::uint64_t system_calls = 0;
};

struct Completion {
  Buffer buffer;                        // the memory the request consumed
  Result<std::size_t> transferred = 0;  // all bytes asked for, or the reason why not
};

struct PendingRequest;

// Handle on one request; may outlive the Engine. Move-only. Dropping a Ticket abandons the request:
// it still runs to its end inside the engine, and the Buffer is released there.
class Ticket {
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

 private:
  friend class Engine;
  explicit Ticket(PendingRequest* request) noexcept : request_(request) {}
  PendingRequest* request_ = nullptr;
};

class Engine {
 public:
  // Called once, on an engine thread; gets the Buffer back.
  using Callback = std::function<void(Completion)>;

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
    const File* file = nullptr;     // must outlive the request
    std::uint64_t offset = 0;       // bytes from the start of the file
    std::size_t size_bytes = 0;     // any length; 0 completes at once
    std::size_t buffer_offset = 0;  // bytes from the start of the Buffer
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

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace spillway::aio
