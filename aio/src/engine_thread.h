// EngineThread: one thread with one Backend. It keeps up to `queue_depth` pieces in flight and
// handles their completions: short transfers, retries, failures.
#pragma once

#include <spillway/aio/patience.h>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "bounce_buffers.h"
#include "latency_counter.h"
#include "work_queue.h"

namespace spillway::aio {

class EngineThread final : public Worker {
 public:
  // `index`: its number among the engine's threads.
  EngineThread(WorkQueue& queue, const EngineOptions& options, const RequestPool* pool,
               std::uint32_t index);
  ~EngineThread();

  // Starts the thread and waits until it has its Backend.
  Result<void> start(BackendFactory& factory);
  // REQUIRES: the queue was stopped.
  void join();

  void wake() noexcept override { backend_->wake(); }
  const char* backend_name() const noexcept { return backend_->name(); }
  void add_to(EngineStats& stats) const noexcept;
  LatencyHistogram latency(Direction direction) const noexcept {
    return (direction == Direction::kRead ? read_latency_ : write_latency_).snapshot();
  }

  // Called on this thread only (by a Command).
  Result<void> register_memory(std::span<std::byte> memory) {
    return backend_->register_memory(memory);
  }
  void unregister_memory(std::span<std::byte> memory) { backend_->unregister_memory(memory); }
  void register_file(int fd, std::uint64_t id);
  void unregister_file(int fd, std::uint64_t id);

 private:
  enum class Stage : std::uint8_t { kMove, kWriteBack };  // kWriteBack: of Route::kPageCache

  // A piece in flight.
  struct Slot {
    Work work;
    std::byte* memory = nullptr;   // of the operation: the request's, or a bounce buffer
    std::uint32_t done_bytes = 0;  // of this stage
    std::uint32_t retries = 0;     // without progress
    std::uint32_t generation = 0;  // of user_data, so that no completion is taken twice
    Stage stage = Stage::kMove;
    bool in_use = false;
    bool in_flight = false;                           // the Backend has it
    std::chrono::steady_clock::time_point submitted;  // set only if latency is measured
  };

  struct Counters {
    std::atomic<std::uint64_t> read_bytes{0}, written_bytes{0}, read_operations{0},
        write_operations{0}, short_transfers{0}, retries{0}, system_calls{0};
  };

  void run();
  bool round();
  void begin(const Work& work);
  void measure(const Slot& slot, std::int32_t result);
  void enqueue(Slot& slot);
  bool submit_ready();
  void take_events(std::chrono::nanoseconds timeout);
  void judge(const Event& event);
  void judge_failure(Slot& slot, int errno_value);
  void judge_short(Slot& slot, std::uint32_t moved_bytes);
  void write_back(Slot& slot);
  void moved(Slot& slot);
  void end(Slot& slot);
  void fail(Slot& slot, ErrorKind kind, int errno_value, std::string detail);
  void cancel(Slot& slot);
  void cancel_in_flight();
  // True if the rest of the slot's piece is no longer wanted.
  bool given_up_on(const Slot& slot) const noexcept {
    return draining_ || slot.work.request->cancelled;
  }
  void begin_draining();
  void give_up_in_flight();
  bool measures() const noexcept {
    return options_.measure_latency || options_.observer.ended != nullptr;
  }
  // Returns the start of the slot's next operation: a block that was moved in part is moved again.
  std::uint32_t start_of(const Slot& slot) const noexcept {
    if (slot.work.piece.route == Route::kPageCache) return slot.done_bytes;
    return slot.done_bytes & ~(block_alignment(slot.work.request->file) - 1);
  }
  Direction direction_of(const Slot& slot) const noexcept { return slot.work.request->direction; }
  bool is_read(const Slot& slot) const noexcept { return direction_of(slot) == Direction::kRead; }

  WorkQueue& queue_;
  const EngineOptions options_;
  const RequestPool* const pool_;
  const std::uint32_t index_;
  std::unique_ptr<Backend> backend_;
  BounceBuffers bounce_;
  std::thread thread_;

  // All have a fixed capacity, reserved at the start.
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::vector<Operation> ready_;
  std::vector<Event> events_;
  std::vector<Ended> ended_;
  std::vector<Work> work_;
  std::vector<PendingRequest*> completed_, expired_, drained_;
  std::vector<Command*> commands_;
  std::vector<std::pair<int, std::uint64_t>> registered_files_;

  std::uint32_t in_flight_ = 0;
  bool more_to_take_ = false;
  bool draining_ = false;
  Patience drain_patience_;
  std::chrono::steady_clock::time_point request_deadline_ = Engine::kNoDeadline;
  Counters counters_;
  LatencyCounter read_latency_, write_latency_;
};

}  // namespace spillway::aio
