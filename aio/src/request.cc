#include "request.h"

#include <spillway/aio/check.h>

#include <utility>

namespace spillway::aio {
namespace {

thread_local const RequestPool* engine_of_this_thread = nullptr;

Completion take_completion(PendingRequest* request) {
  return {.buffer = std::move(request->buffer), .transferred = std::move(request->transferred)};
}

}  // namespace

bool on_engine_thread(const RequestPool* pool) noexcept { return engine_of_this_thread == pool; }
void set_engine_thread(const RequestPool* pool) noexcept { engine_of_this_thread = pool; }

void complete(PendingRequest* request) {
  if (request->failure) {
    Error& error = *request->failure;
    error.operation = request->direction == Direction::kRead ? "read" : "write";
    error.path = request->file->path();
    error.offset = request->offset;
    error.wanted = request->size_bytes;
    error.got = request->failed_at - request->offset;
    request->transferred = tl::unexpected(std::move(error));
  } else {
    request->transferred = request->size_bytes;
  }
  if (request->memory_lost) request->buffer.leak();
  if (request->callback) {
    Engine::Callback callback = std::move(request->callback);
    callback(take_completion(request));
  } else {
    // Notified under the lock: the waiter may hand the request back as soon as it is let go.
    std::lock_guard lock(request->mutex);
    request->done.store(true, std::memory_order_release);
    request->completed.notify_all();
  }
  release(request);
}

void release(PendingRequest* request) noexcept {
  if (request->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  std::shared_ptr<RequestPool> pool = std::move(request->pool);
  request->buffer = Buffer();
  request->callback = nullptr;
  request->transferred = std::size_t{0};
  request->failure.reset();
  pool->put(request);
}

RequestPool::RequestPool(std::size_t capacity) {
  free_.reserve(capacity);
  for (; made_ < capacity; ++made_) free_.push_back(new PendingRequest);
}

RequestPool::~RequestPool() {
  for (PendingRequest* request : free_) delete request;
}

PendingRequest* RequestPool::take() {
  std::lock_guard lock(mutex_);
  if (free_.empty()) {
    free_.reserve(++made_);  // so that put never allocates
    return new PendingRequest;
  }
  PendingRequest* request = free_.back();
  free_.pop_back();
  return request;
}

void RequestPool::put(PendingRequest* request) noexcept {
  std::lock_guard lock(mutex_);
  free_.push_back(request);
}

Ticket::Ticket(Ticket&& other) noexcept : request_(std::exchange(other.request_, nullptr)) {}

Ticket& Ticket::operator=(Ticket&& other) noexcept {
  std::swap(request_, other.request_);
  return *this;
}

Ticket::~Ticket() {
  if (request_ != nullptr) release(request_);
}

bool Ticket::done() const noexcept {
  SPILLWAY_CHECK(valid(), "the Ticket was consumed or moved from");
  return request_->done.load(std::memory_order_acquire);
}

Completion Ticket::wait() {
  SPILLWAY_CHECK(valid(), "the Ticket was consumed or moved from");
  PendingRequest* request = std::exchange(request_, nullptr);
  {
    std::unique_lock lock(request->mutex);
    SPILLWAY_CHECK(request->done || !on_engine_thread(request->pool.get()),
                   "a callback must not wait for a request of its own engine");
    request->completed.wait(lock, [&] { return request->done.load(); });
  }
  Completion completion = take_completion(request);
  release(request);
  return completion;
}

Completion Ticket::wait_until(std::chrono::steady_clock::time_point deadline) {
  SPILLWAY_CHECK(valid(), "the Ticket was consumed or moved from");
  PendingRequest* request = std::exchange(request_, nullptr);
  bool done = false;
  {
    std::unique_lock lock(request->mutex);
    done = request->completed.wait_until(lock, deadline, [&] { return request->done.load(); });
  }
  Completion completion;
  if (done) {
    completion = take_completion(request);
  } else {
    // The engine still works on it: only what never changes may be read here.
    Error error;
    error.kind = ErrorKind::kDeadline;
    error.operation = request->direction == Direction::kRead ? "read" : "write";
    error.path = request->file->path();
    error.offset = request->offset;
    error.wanted = request->size_bytes;
    error.detail = "the memory stays with the engine until the kernel is done with it";
    completion.transferred = tl::unexpected(std::move(error));
  }
  release(request);
  return completion;
}

}  // namespace spillway::aio
