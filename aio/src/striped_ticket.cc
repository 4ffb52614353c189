#include <spillway/aio/check.h>
#include <spillway/aio/patience.h>

#include <utility>

#include "striped_core.h"

namespace spillway::aio {
namespace {

Completion take_completion(StripedRequest* request) {
  Completion completion{.buffer = {}, .transferred = std::move(request->transferred)};
  if (!request->buffer_withheld) completion.buffer = std::move(request->buffer);
  return completion;
}

// Of a request that is not usable, in a forked child; one that was refused there has no core.
Completion completion_in_child(StripedRequest* request) {
  if (request->core != nullptr) {
    return {.buffer = {}, .transferred = tl::unexpected(request->core->owner().error("wait"))};
  }
  Completion completion = take_completion(request);
  delete request;
  return completion;
}

}  // namespace

StripedTicket::StripedTicket(StripedTicket&& other) noexcept
    : request_(std::exchange(other.request_, nullptr)) {}

StripedTicket& StripedTicket::operator=(StripedTicket&& other) noexcept {
  std::swap(request_, other.request_);
  return *this;
}

StripedTicket::~StripedTicket() {
  if (request_ == nullptr) return;
  if (!StripedCore::usable(*request_)) {
    if (request_->core == nullptr) delete request_;
    return;
  }
  if (!done()) cancel();
  StripedCore::release(request_);
}

bool StripedTicket::done() const noexcept {
  SPILLWAY_CHECK(valid(), "the ticket was consumed or moved from");
  return request_->done.load(std::memory_order_acquire) || !StripedCore::usable(*request_);
}

void StripedTicket::cancel() {
  SPILLWAY_CHECK(valid(), "the ticket was consumed or moved from");
  if (StripedCore::usable(*request_)) request_->core->cancel(request_);
}

Completion StripedTicket::wait() {
  SPILLWAY_CHECK(valid(), "the ticket was consumed or moved from");
  StripedRequest* const request = std::exchange(request_, nullptr);
  if (!StripedCore::usable(*request)) return completion_in_child(request);
  {
    MutexLock guard(request->mutex);
    while (!request->done) request->completed.wait(guard);
  }
  Completion completion = take_completion(request);
  StripedCore::release(request);
  return completion;
}

bool StripedTicket::wait_for(std::chrono::nanoseconds timeout) {
  SPILLWAY_CHECK(valid(), "the ticket was consumed or moved from");
  if (!StripedCore::usable(*request_)) return true;
  MutexLock guard(request_->mutex);
  return request_->completed.wait_running_until(guard, Patience::after(timeout),
                                                [&] { return request_->done.load(); });
}

Completion StripedTicket::wait_until(std::chrono::steady_clock::time_point deadline) {
  SPILLWAY_CHECK(valid(), "the ticket was consumed or moved from");
  StripedRequest* const request = std::exchange(request_, nullptr);
  if (!StripedCore::usable(*request)) return completion_in_child(request);
  bool done = false;
  {
    MutexLock guard(request->mutex);
    done = request->completed.wait_running_until(guard, deadline,
                                                 [&] { return request->done.load(); });
  }
  Completion completion;
  if (done) {
    completion = take_completion(request);
  } else {
    completion.transferred = tl::unexpected(request->core->error_of(
        *request, ErrorKind::kDeadline,
        "the memory stays with the engine until the kernel is done with it"));
    request->core->cancel(request);
  }
  StripedCore::release(request);
  return completion;
}

}  // namespace spillway::aio
