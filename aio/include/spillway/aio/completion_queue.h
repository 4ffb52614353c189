// CompletionQueue: waits for whichever of many requests ends first, of any Engines and
// StripedFiles.
//
// A request gets `callback(tag)` instead of a Ticket. When it ends, its Completion arrives here
// with that tag, in the order in which requests end. `fd` is for programs that wait for other
// things too. Threads: any. Ownership: the requests' Buffers pass through it; the destructor waits
// for the requests. In a forked child nothing arrives: `wait` returns nothing at once.
#pragma once

#include <spillway/aio/callback.h>
#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

namespace spillway::aio {

class SPILLWAY_API CompletionQueue {
 public:
  struct Entry {
    std::uint64_t tag = 0;
    Completion completion;
  };

  // Makes a queue for `capacity` requests that are in flight or not taken yet. No heap memory
  // per request. kNoMemory. REQUIRES: 1 <= capacity <= 2^24.
  static Result<std::unique_ptr<CompletionQueue>> create(std::size_t capacity);
  // Blocks until the requests have ended, and drops their Completions.
  // REQUIRES: not called on a thread of their engines.
  ~CompletionQueue();
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;

  // Returns the callback for one request. REQUIRES: expected() < capacity.
  Callback callback(std::uint64_t tag);
  // Returns the number of callbacks whose Completion was not taken yet.
  std::size_t expected() const noexcept;

  // Returns the next Completion; nothing if there is none now. Does not block.
  std::optional<Entry> try_take();
  // Blocks until there is one, at most for `timeout`.
  std::optional<Entry> wait(std::chrono::nanoseconds timeout = std::chrono::nanoseconds::max());
  // Returns an eventfd that is readable while there is a Completion to take: for poll and epoll,
  // not to be read or closed. It is made by the first call; kIo if the process has no more.
  Result<int> fd();

 private:
  class SPILLWAY_LOCAL State;
  class SPILLWAY_LOCAL Place;
  explicit CompletionQueue(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace spillway::aio
