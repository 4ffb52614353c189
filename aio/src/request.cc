#include "request.h"

#include <spillway/aio/check.h>
#include <spillway/aio/patience.h>

#include <limits>
#include <utility>

#include "forked_child.h"
#include "work_queue.h"

namespace spillway::aio {
namespace {

thread_local const RequestPool* engine_of_this_thread = nullptr;

Completion take_completion(PendingRequest* request) {
  Completion completion{.buffer = {}, .transferred = std::move(request->transferred)};
  if (!request->buffer_withheld) completion.buffer = std::move(request->buffer);
  return completion;
}

// Only what never changes after submission is read, and `got`.
Error failure_of(const PendingRequest& request, Error error, std::uint64_t got) {
  error.operation = request.direction == Direction::kRead ? "read" : "write";
  error.path = request.file.path();
  error.offset = request.offset;
  error.wanted = request.size_bytes;
  error.got = got;
  return error;
}

Error deadline_passed() {
  Error error;
  error.kind = ErrorKind::kDeadline;
  error.detail = "the memory stays with the engine until the kernel is done with it";
  return error;
}

// To the kernel an offset is signed, and -1 is io_uring's "at the file's position".
Error beyond_any_file() {
  Error error;
  error.kind = ErrorKind::kInvalid;
  error.detail = "a file ends at 9223372036854775807 at the latest, the request does not";
  return error;
}

bool within_a_file(std::uint64_t offset, std::size_t size_bytes) {
  constexpr std::uint64_t kLargest = std::numeric_limits<std::int64_t>::max();  // off_t
  return offset <= kLargest && size_bytes <= kLargest - offset;
}

// An ended request lets its File go first: who waited for it may expect that dropping his own
// closes the descriptor.
void publish(PendingRequest* request) {
  const bool ended = !request->expired;
  if (request->callback) {
    if (ended) request->drop_file();
    Engine::Callback callback = std::move(request->callback);
    callback(take_completion(request));
  } else {
    // Notified under the lock: the waiter may hand the request back as soon as it is let go.
    MutexLock lock(request->mutex);
    if (ended) request->drop_file();
    request->done.store(true, std::memory_order_release);
    request->completed.notify_all();
  }
}

// Requests whose callbacks this thread is to run, one after the other: a callback that starts the
// next item, and finds it ended at once, would else call itself without end.
struct Completing {
  const RequestPool* pool = nullptr;  // of the callback that runs
  PendingRequest* first = nullptr;
  PendingRequest* last = nullptr;
};
thread_local Completing completing;

void finish_now(PendingRequest* request) {
  const std::shared_ptr<RequestPool> pool = request->pool;
  const bool on_a_callers_thread = request->on_a_callers_thread;
  completing.pool = pool.get();
  publish(request);
  release(request);
  completing.pool = nullptr;
  if (on_a_callers_thread) pool->callback_ended();
}

// Publishes the request and drops the engine's reference.
void finish(PendingRequest* request) {
  if (!request->callback) {
    publish(request);
    return release(request);
  }
  if (completing.pool != nullptr) {
    request->next = nullptr;
    (completing.last == nullptr ? completing.first : completing.last->next) = request;
    completing.last = request;
    return;
  }
  finish_now(request);
  while (PendingRequest* next = completing.first) {
    completing.first = next->next;
    if (completing.first == nullptr) completing.last = nullptr;
    finish_now(next);
  }
}

}  // namespace

bool in_callback_of(const RequestPool* pool) noexcept { return completing.pool == pool; }

bool on_engine_thread(const RequestPool* pool) noexcept { return engine_of_this_thread == pool; }
bool on_any_engine_thread() noexcept { return engine_of_this_thread != nullptr; }
void set_engine_thread(const RequestPool* pool) noexcept { engine_of_this_thread = pool; }

void PendingRequest::begin(Direction towards, const Engine::Request& request, Buffer memory,
                           Engine::Callback on_completion) {
  direction = towards;
  file = request.file->share();
  offset = request.offset;
  size_bytes = request.size_bytes;
  priority = request.priority;
  deadline = request.deadline;
  data = memory.data() + request.buffer_offset;
  buffer = std::move(memory);
  callback = std::move(on_completion);
  page_cache_fd = -1;
  cut_to = offset;
  outstanding = 0;
  failed_at = 0;
  memory_lost = false;
  expired = false;
  cancelled.store(false, std::memory_order_relaxed);
  done.store(false, std::memory_order_relaxed);
  buffer_withheld = false;
  on_a_callers_thread = false;
  if (!within_a_file(offset, size_bytes)) {
    failure = beyond_any_file();
    failed_at = offset;
  } else if (direction == Direction::kWrite && has_edges()) {
    open_page_cache();
  }
}

bool PendingRequest::has_edges() const {
  const std::uint64_t alignment = file.offset_alignment();
  return size_bytes > 0 && (offset % alignment != 0 || end() % alignment != 0);
}

void PendingRequest::open_page_cache() {
  auto opened = file.open_->page_cache();
  if (opened) {
    page_cache_fd = *opened;
  } else {
    failure = std::move(opened.error());
    failed_at = offset;
  }
}

void PendingRequest::clear() {
  buffer = Buffer();
  callback = nullptr;
  transferred = std::size_t{0};
  failure.reset();
  drop_file();
}

void PendingRequest::drop_file() { file = File(); }

void complete(PendingRequest* request) {
  if (request->failure) {
    std::uint64_t got = request->failed_at - request->offset;
    request->transferred = tl::unexpected(failure_of(*request, std::move(*request->failure), got));
  } else {
    request->transferred = request->size_bytes;
  }
  if (request->memory_lost) request->buffer.leak();
  finish(request);
}

void complete_expired(PendingRequest* request) {
  request->transferred = tl::unexpected(failure_of(*request, deadline_passed(), 0));
  request->buffer_withheld = true;
  finish(request);
}

void end_expired(PendingRequest* request) {
  if (request->memory_lost) request->buffer.leak();
  release(request);
}

void release(PendingRequest* request) noexcept {
  if (request->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  std::shared_ptr<RequestPool> pool = std::move(request->pool);
  request->clear();
  pool->put(request);
}

// By way of the empty pool: what is made when the heap ends is given back by the destructor.
RequestPool::RequestPool(std::size_t capacity) : RequestPool() {
  free_.reserve(capacity);
  for (; made_ < capacity; ++made_) free_.push_back(new PendingRequest);
}

RequestPool::~RequestPool() {
  for (PendingRequest* request : free_) delete request;
}

PendingRequest* RequestPool::take() {
  MutexLock lock(mutex_);
  if (free_.empty()) {
    free_.reserve(++made_);  // so that put never allocates
    return new PendingRequest;
  }
  PendingRequest* request = free_.back();
  free_.pop_back();
  return request;
}

void RequestPool::put(PendingRequest* request) noexcept {
  MutexLock lock(mutex_);
  free_.push_back(request);
}

void RequestPool::set_queue(WorkQueue* queue) {
  MutexLock lock(queue_mutex_);
  queue_ = queue;
  while (queue == nullptr && callers_callbacks_ > 0) callbacks_ended_.wait(lock);
}

void RequestPool::cancel(PendingRequest* request) {
  bool ended = false;
  {
    MutexLock lock(queue_mutex_);
    ended = queue_ != nullptr && queue_->cancel(request);
    if (ended && request->callback) {
      request->on_a_callers_thread = true;
      ++callers_callbacks_;
    }
  }
  if (ended) complete(request);
}

void RequestPool::callback_ended() {
  MutexLock lock(queue_mutex_);
  if (--callers_callbacks_ == 0) callbacks_ended_.notify_all();
}

void RequestPool::expedite(PendingRequest* request) {
  MutexLock lock(queue_mutex_);
  if (queue_ != nullptr) queue_->expedite(request);
}

Ticket::Ticket(Ticket&& other) noexcept : request_(std::exchange(other.request_, nullptr)) {}

Ticket& Ticket::operator=(Ticket&& other) noexcept {
  std::swap(request_, other.request_);
  return *this;
}

Ticket::~Ticket() {
  if (request_ == nullptr) return;
  if (!usable(*request_)) {
    drop_in_child(request_);
    return;
  }
  if (!request_->done.load(std::memory_order_acquire)) request_->pool->cancel(request_);
  release(request_);
}

void Ticket::cancel() {
  SPILLWAY_CHECK(valid(), "the Ticket was consumed or moved from");
  if (usable(*request_)) request_->pool->cancel(request_);
}

void Ticket::expedite() {
  SPILLWAY_CHECK(valid(), "the Ticket was consumed or moved from");
  if (usable(*request_)) request_->pool->expedite(request_);
}

bool Ticket::done() const noexcept {
  SPILLWAY_CHECK(valid(), "the Ticket was consumed or moved from");
  return request_->done.load(std::memory_order_acquire) || !usable(*request_);
}

Completion Ticket::wait() {
  SPILLWAY_CHECK(valid(), "the Ticket was consumed or moved from");
  PendingRequest* request = std::exchange(request_, nullptr);
  if (!usable(*request)) return completion_in_child(request);
  {
    MutexLock lock(request->mutex);
    SPILLWAY_CHECK(request->done || !on_engine_thread(request->pool.get()),
                   "a callback must not wait for a request of its own engine");
    while (!request->done) request->completed.wait(lock);
  }
  Completion completion = take_completion(request);
  release(request);
  return completion;
}

bool Ticket::wait_for(std::chrono::nanoseconds timeout) {
  SPILLWAY_CHECK(valid(), "the Ticket was consumed or moved from");
  if (!usable(*request_)) return true;
  MutexLock lock(request_->mutex);
  SPILLWAY_CHECK(request_->done || !on_engine_thread(request_->pool.get()),
                 "a callback must not wait for a request of its own engine");
  return request_->completed.wait_running_until(lock, Patience::after(timeout),
                                                [&] { return request_->done.load(); });
}

Completion Ticket::wait_until(std::chrono::steady_clock::time_point deadline) {
  SPILLWAY_CHECK(valid(), "the Ticket was consumed or moved from");
  PendingRequest* request = std::exchange(request_, nullptr);
  if (!usable(*request)) return completion_in_child(request);
  Completion completion;
  {
    MutexLock lock(request->mutex);
    if (request->completed.wait_running_until(lock, deadline,
                                              [&] { return request->done.load(); })) {
      completion = take_completion(request);
    } else {
      completion.transferred = tl::unexpected(failure_of(*request, deadline_passed(), 0));
    }
  }
  if (!request->done) request->pool->cancel(request);
  release(request);
  return completion;
}

}  // namespace spillway::aio
