// WorkQueue: what the threads of one engine share. Requests wait here to be cut into pieces; a
// thread takes pieces when it has room for them and hands back how they ended. One lock, taken
// once per round of a thread, guards it all.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "piece.h"
#include "request.h"
#include "request_lists.h"

namespace spillway::aio {

inline constexpr std::size_t kMaxPending = 1024;

// A piece handed to a thread.
struct Work {
  PendingRequest* request = nullptr;
  Piece piece;
};

// How a piece ended.
struct Ended {
  PendingRequest* request = nullptr;
  std::uint64_t failed_at = 0;                  // file offset, where `failure` is set
  std::optional<Error> failure = std::nullopt;  // kind, errno and detail
  bool memory_lost = false;
  std::uint64_t padded_end = 0;  // see PendingRequest
  std::uint64_t exact_end = 0;
};

// Something to run on a thread, for its Backend allows no other thread in.
struct Command {
  std::function<void()> run;
  bool done = false;  // guarded by the WorkQueue
};

// A thread as the queue sees it.
class Worker {
 public:
  virtual void wake() noexcept = 0;

 protected:
  ~Worker() = default;

 private:
  friend class WorkQueue;
  enum Sleep : std::uint8_t { kAwake, kForUrgent, kForAny };
  std::vector<Command*> commands_;
  // What it can take and has not: a push of that kind must wake it.
  std::atomic<Sleep> sleep_{kAwake};
  bool look_for_cancelled_ = false;  // guarded by the WorkQueue
};

// Why a request did not run to its end.
Error engine_destroyed();
Error given_up();

class WorkQueue {
 public:
  explicit WorkQueue(const EngineOptions& options)
      : block_size_bytes_(options.block_size_bytes), thread_count_(options.thread_count) {
    active_.reserve(kMaxPending);
  }

  // Blocks while kMaxPending requests are pending, if it may. False after stop(): not taken.
  bool push(PendingRequest* request, bool may_block);

  // See Ticket. A request that has ended already stays as it is. True: the caller must complete()
  // it, for no thread has anything of it.
  [[nodiscard]] bool cancel(PendingRequest* request);
  void expedite(PendingRequest* request);

  // Runs `command` on `worker` and waits for its end.
  void run_on(Worker& worker, Command& command);

  void stop();

  // One round of a thread: gives back `ended`, takes pieces.
  struct Round {
    std::span<Ended> ended;                             // in
    std::size_t room = 0;                               // in: pieces the thread has room for
    std::size_t bounce_room = 0;                        // in: bounce buffers it has
    std::vector<Work>* work = nullptr;                  // out
    std::vector<PendingRequest*>* completed = nullptr;  // out: to be completed by the thread
    std::vector<PendingRequest*>* expired = nullptr;    // out: to complete_expired()
    std::vector<PendingRequest*>* drained = nullptr;    // out: to end_expired()
    std::vector<Command*>* commands = nullptr;          // out: to be run, then passed to finish()
    bool stopping = false;                              // out
    bool more_to_take = false;                          // out: come back without waiting
    bool look_for_cancelled = false;                    // out: some request in flight is cancelled
    std::chrono::steady_clock::time_point deadline{};   // out: come back by then
  };
  void exchange(Worker& worker, Round& round);
  void finish(std::span<Command* const> commands);
  // The worker is up: a push need not wake it.
  static void awake(Worker& worker) {
    worker.sleep_.store(Worker::kAwake, std::memory_order_relaxed);
  }

  // Before the worker's first round.
  void add(Worker& worker);

 private:
  void record(Ended& ended, Round& round);
  void drop_queued_part(PendingRequest* request, Error why);
  void end_queued(Round& round);
  void deactivate(PendingRequest* request);
  void retire(PendingRequest* request);
  void cut_back(PendingRequest& request);
  void expire(Round& round);
  void take(Worker& worker, Round& round);
  std::size_t fair_share(std::uint64_t waiting_bytes, std::size_t room) const;
  std::size_t pick_sleepers(const PendingRequest& request, std::span<Worker*> out);
  void look_for_cancelled();

  const std::uint32_t block_size_bytes_;
  const std::uint32_t thread_count_;
  std::mutex mutex_;
  std::condition_variable has_room_;
  std::condition_variable command_done_;
  RequestLists waiting_;
  std::vector<PendingRequest*> active_;  // pushed and not completed
  std::vector<Worker*> workers_;
  std::size_t next_worker_ = 0;
  // No request that is active ends sooner by its deadline; looked at anew when it has passed.
  std::chrono::steady_clock::time_point next_deadline_ = Engine::kNoDeadline;
  bool stopping_ = false;
};

}  // namespace spillway::aio
