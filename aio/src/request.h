// PendingRequest: one read or write, from its submission to the end of its Ticket.
//
// The engine (until completion) and the Ticket (until it is waited for or dropped) share it; the
// last of the two returns it to its RequestPool for reuse.
#pragma once

#include <spillway/aio/engine.h>
#include <spillway/aio/mutex.h>
#include <spillway/aio/owner_process.h>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace spillway::aio {

class RequestPool;
class WorkQueue;
struct RequestList;

struct PendingRequest {
  // Set at submission. `data` is the first byte of the request inside `buffer`.
  Direction direction = Direction::kRead;
  File file;               // shares the descriptors: the caller may drop its own
  int page_cache_fd = -1;  // for Route::kPageCache, if there are such pieces
  std::uint64_t offset = 0;
  std::size_t size_bytes = 0;
  std::byte* data = nullptr;
  Buffer buffer;
  Engine::Callback callback;
  std::chrono::steady_clock::time_point deadline;

  // Guarded by the WorkQueue.
  Priority priority = Priority::kNormal;
  std::uint64_t cut_to = 0;       // file offset up to which it is cut into pieces
  std::uint32_t outstanding = 0;  // pieces cut and not ended
  std::optional<Error> failure;   // the one nearest to the start; its `got` is set at the end
  std::uint64_t failed_at = 0;    // file offset
  bool memory_lost = false;       // the kernel may still use the memory: never release it
  bool expired = false;           // completed by its deadline; the kernel still has its memory
  RequestList* list = nullptr;    // the list of requests to cut that has it, if any
  PendingRequest* next = nullptr;
  PendingRequest* previous = nullptr;
  static constexpr std::size_t kNotActive = ~std::size_t{0};
  std::size_t active_index = kNotActive;
  // The threads end its pieces early. Set under the WorkQueue's lock, read by the threads.
  std::atomic<bool> cancelled{false};

  // Between the engine and the Ticket: written before `done` is set under `mutex`, read after.
  Mutex mutex;
  CondVar completed;
  std::atomic<bool> done{false};
  // Its callback runs where it was cancelled, not on a thread of the engine.
  bool on_a_callers_thread = false;
  bool buffer_withheld = false;  // completed while the kernel may still use the memory
  Result<std::size_t> transferred = std::size_t{0};
  std::atomic<int> references{0};
  // Shared, because a Ticket may outlive its Engine.
  std::shared_ptr<RequestPool> pool;

  std::uint64_t end() const noexcept { return offset + size_bytes; }
  bool fully_cut() const noexcept { return cut_to == end(); }

  // Sets all fields but `pool` and `references` for a new request, and `failure` if it cannot be
  // carried out.
  void begin(Direction towards, const Engine::Request& request, Buffer memory,
             Engine::Callback on_completion);
  // Releases what it holds, for reuse.
  void clear();
  void drop_file();

 private:
  bool has_edges() const;  // pages that it covers in part
  void open_page_cache();
};

// Publishes the result: wakes the thread that waits on the Ticket, or runs the callback (within
// another callback: after that one has returned). Drops the engine's reference, so `request` must
// not be used afterwards.
void complete(PendingRequest* request);

// Publishes kDeadline for a request whose memory the kernel still uses: the engine keeps the Buffer
// until `end_expired`. Drops one of the two references that the engine has on an expired request.
void complete_expired(PendingRequest* request);
void end_expired(PendingRequest* request);

// Drops one reference.
void release(PendingRequest* request) noexcept;

// RequestPool: keeps ended requests for reuse. Threads: any.
class RequestPool {
 public:
  explicit RequestPool(std::size_t capacity);
  ~RequestPool();
  RequestPool(const RequestPool&) = delete;
  RequestPool& operator=(const RequestPool&) = delete;

  // Returns a free request; allocates only if Tickets hold more requests than ever before.
  PendingRequest* take();
  void put(PendingRequest* request) noexcept;

  // Sets the queue through which Tickets reach the engine; nullptr once the engine is destroyed:
  // then it also waits for the callbacks that run on threads of those who cancelled.
  void set_queue(WorkQueue* queue);
  // Returns the process of the engine: in another one no function of a Ticket may use the pool.
  const OwnerProcess& owner() const noexcept { return owner_; }
  void callback_ended();
  void cancel(PendingRequest* request);
  void expedite(PendingRequest* request);

 private:
  RequestPool() = default;

  const OwnerProcess owner_;
  Mutex queue_mutex_;  // taken before the WorkQueue's own lock
  WorkQueue* queue_ SPILLWAY_GUARDED_BY(queue_mutex_) = nullptr;
  std::size_t callers_callbacks_ SPILLWAY_GUARDED_BY(queue_mutex_) = 0;
  CondVar callbacks_ended_;
  Mutex mutex_;
  std::vector<PendingRequest*> free_ SPILLWAY_GUARDED_BY(mutex_);
  std::size_t made_ SPILLWAY_GUARDED_BY(mutex_) = 0;
};

// True on a thread of the engine that owns `pool`: waiting there would be a deadlock.
bool on_engine_thread(const RequestPool* pool) noexcept;
bool on_any_engine_thread() noexcept;
void set_engine_thread(const RequestPool* pool) noexcept;
// True in a callback of a request of the engine that owns `pool`, on any thread.
bool in_callback_of(const RequestPool* pool) noexcept;

}  // namespace spillway::aio
