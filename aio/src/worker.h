// What an engine thread and the WorkQueue trade: pieces to move, their outcomes, commands.
#pragma once

#include <spillway/aio/error.h>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "piece.h"
#include "request.h"

namespace spillway::aio {

// A piece for a thread.
struct Work {
  PendingRequest* request = nullptr;
  Piece piece;
};

// The outcome of a piece.
struct Ended {
  PendingRequest* request = nullptr;
  std::uint64_t failed_at = 0;                  // file offset, if `failure` is set
  std::optional<Error> failure = std::nullopt;  // kind, errno and detail
  bool memory_lost = false;
};

// A function to run on an engine thread, because only that thread may call its Backend.
struct Command {
  std::function<void()> run;
  bool done = false;  // guarded by the WorkQueue
};

// Worker: the queue's view of an engine thread.
class Worker {
 public:
  virtual void wake() noexcept = 0;

 protected:
  ~Worker() = default;

 private:
  friend class WorkQueue;
  enum Sleep : std::uint8_t { kAwake, kForUrgent, kForAny };
  std::vector<Command*> commands_;
  // The kind of push that must wake it.
  std::atomic<Sleep> sleep_{kAwake};
  bool look_for_cancelled_ = false;  // guarded by the WorkQueue
};

}  // namespace spillway::aio
