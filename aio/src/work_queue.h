// WorkQueue: the state that the threads of one engine share.
//
// Requests wait here to be cut into pieces. A thread takes pieces when it has room for them and
// reports their outcomes. One lock, taken once per round of a thread, guards it all.
#pragma once

#include <spillway/aio/mutex.h>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "piece.h"
#include "request.h"
#include "request_lists.h"
#include "worker.h"

namespace spillway::aio {

inline constexpr std::size_t kMaxPending = 1024;

// The errors of requests that were cancelled by the engine's end, or by their caller.
Error engine_destroyed();
Error given_up();

class WorkQueue {
 public:
  explicit WorkQueue(const EngineOptions& options)
      : block_size_bytes_(options.block_size_bytes), thread_count_(options.thread_count) {
    active_.reserve(kMaxPending);
  }

  // Adds requests, in their order, and wakes the threads for all of them at once. Blocks while
  // kMaxPending requests are pending, if `may_block`. Returns how many were taken: all, unless
  // `stop` was called.
  std::size_t push(std::span<PendingRequest* const> requests, bool may_block);

  // See Ticket. Does nothing to a request that has ended. True if no thread has any piece of it:
  // the caller must then `complete` it.
  [[nodiscard]] bool cancel(PendingRequest* request);
  void expedite(PendingRequest* request);

  // Runs `command` on `worker` and waits until it has run.
  void run_on(Worker& worker, Command& command);

  // Lets the calling thread move a request itself. False if anything is pending, or `most` threads
  // do so already. Each true is followed by end_callers_move().
  [[nodiscard]] bool begin_callers_move(std::size_t most);
  void end_callers_move();

  void stop();

  // One round of a thread: it reports `ended` and takes pieces.
  struct Round {
    std::span<Ended> ended;                             // in
    std::size_t room = 0;                               // in: pieces the thread has room for
    std::size_t bounce_room = 0;                        // in: bounce buffers it has
    std::vector<Work>* work = nullptr;                  // out
    std::vector<PendingRequest*>* completed = nullptr;  // out: the thread completes them
    std::vector<PendingRequest*>* expired = nullptr;    // out: for complete_expired()
    std::vector<PendingRequest*>* drained = nullptr;    // out: for end_expired()
    std::vector<Command*>* commands = nullptr;          // out: to run, then pass to finish()
    bool stopping = false;                              // out
    bool more_to_take = false;                          // out: come back without waiting
    bool look_for_cancelled = false;                    // out: a request in flight is cancelled
    std::chrono::steady_clock::time_point deadline{};   // out: come back by then
  };
  void exchange(Worker& worker, Round& round);
  void finish(std::span<Command* const> commands);
  // Marks the worker as awake: a push need not wake it.
  static void awake(Worker& worker) {
    worker.sleep_.store(Worker::kAwake, std::memory_order_relaxed);
  }

  // Adds a worker, before its first round.
  void add(Worker& worker);

 private:
  // Workers to wake once the lock is free; EngineOptions::thread_count is at most 64.
  struct Sleepers {
    std::array<Worker*, 64> workers;
    std::size_t count = 0;
    void wake() const {
      for (std::size_t i = 0; i < count; ++i) workers[i]->wake();
    }
  };

  void add(PendingRequest* request, Sleepers& sleepers) SPILLWAY_REQUIRES(mutex_);
  void record(Ended& ended, Round& round) SPILLWAY_REQUIRES(mutex_);
  void drop_queued_part(PendingRequest* request, Error why) SPILLWAY_REQUIRES(mutex_);
  void end_queued(Round& round) SPILLWAY_REQUIRES(mutex_);
  void retire(PendingRequest* request) SPILLWAY_REQUIRES(mutex_);
  void expire(Round& round) SPILLWAY_REQUIRES(mutex_);
  void take(Worker& worker, Round& round) SPILLWAY_REQUIRES(mutex_);
  std::size_t fair_share(std::uint64_t pieces, std::size_t room) const;
  void postpone_deadlines(std::chrono::steady_clock::time_point now) SPILLWAY_REQUIRES(mutex_);
  void pick_sleepers(const PendingRequest& request, Sleepers& sleepers) SPILLWAY_REQUIRES(mutex_);
  void look_for_cancelled() SPILLWAY_REQUIRES(mutex_);

  const std::uint32_t block_size_bytes_;
  const std::uint32_t thread_count_;
  Mutex mutex_;
  CondVar has_room_;
  CondVar command_done_;
  RequestLists waiting_ SPILLWAY_GUARDED_BY(mutex_);
  // Pushed and not completed.
  std::vector<PendingRequest*> active_ SPILLWAY_GUARDED_BY(mutex_);
  std::vector<Worker*> workers_ SPILLWAY_GUARDED_BY(mutex_);
  std::size_t next_worker_ SPILLWAY_GUARDED_BY(mutex_) = 0;
  std::size_t callers_moves_ SPILLWAY_GUARDED_BY(mutex_) = 0;  // in flight
  // A lower bound of the deadlines of active requests; recomputed when it has passed.
  std::chrono::steady_clock::time_point next_deadline_ SPILLWAY_GUARDED_BY(mutex_) =
      Engine::kNoDeadline;
  // Of any thread, while there are deadlines: they come at least every Patience::kLook then.
  std::chrono::steady_clock::time_point last_round_ SPILLWAY_GUARDED_BY(mutex_);
  bool stopping_ SPILLWAY_GUARDED_BY(mutex_) = false;
};

}  // namespace spillway::aio
