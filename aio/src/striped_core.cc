#include "striped_core.h"

#include <spillway/aio/check.h>

#include <algorithm>
#include <utility>

#include "stripe_manifest.h"

namespace spillway::aio {
namespace {

constexpr std::size_t kRequestsAtStart = 64;

thread_local const StripedCore* pumping_on_this_thread = nullptr;

const char* operation_of(Direction direction) {
  return direction == Direction::kRead ? "read" : "write";
}

// Called when no device uses a part's memory any more.
void give_back_part(void* owner, std::byte*, std::size_t) noexcept {
  auto* request = static_cast<StripedRequest*>(owner);
  request->memory_out.fetch_sub(1, std::memory_order_acq_rel);
  StripedCore::release(request);
}

}  // namespace

StripedCore::StripedCore(StripeMap map, std::uint64_t size_bytes, std::vector<Engine*> engines,
                         std::vector<File> files)
    : map_(std::move(map)), size_bytes_(size_bytes) {
  for (std::size_t i = 0; i < files.size(); ++i) {
    Engine* const engine = engines.size() == 1 ? engines.front() : engines[i];
    members_.push_back(std::make_unique<Member>(std::move(files[i]), engine));
  }
  for (std::uint32_t i = StripedFile::kMaxParts; i > 0; --i) free_parts_.push_back(i - 1);
  for (std::size_t i = 0; i < kRequestsAtStart; ++i) {
    free_requests_.push_back(requests_.emplace_back(std::make_unique<StripedRequest>()).get());
  }
}

StripedCore::~StripedCore() = default;

StripedRequest* StripedCore::take_request() {
  const MutexLock guard(mutex_);
  if (free_requests_.empty()) {
    requests_.push_back(std::make_unique<StripedRequest>());
    free_requests_.reserve(requests_.size());  // so that put_request never allocates
    return requests_.back().get();
  }
  StripedRequest* const request = free_requests_.back();
  free_requests_.pop_back();
  return request;
}

void StripedCore::put_request(StripedRequest* request) noexcept {
  const MutexLock guard(mutex_);
  free_requests_.push_back(request);
}

StripedRequest* StripedCore::submit(Direction direction, const StripedFile::Request& wanted,
                                    Buffer buffer, Engine::Callback callback,
                                    std::uint32_t references) {
  SPILLWAY_CHECK(wanted.buffer_offset <= buffer.capacity() &&
                     wanted.size_bytes <= buffer.capacity() - wanted.buffer_offset,
                 "the request does not fit into its Buffer");
  SPILLWAY_CHECK(direction == Direction::kRead || members_.front()->file.writable(),
                 "a write needs a StripedFile that was opened writable");
  if (!owner_.is_here()) {
    return refuse_in_child(direction, wanted, std::move(buffer), std::move(callback),
                           /*wants_ticket=*/references > 1);
  }
  // A callback may let another thread drop the StripedFile before this call is over.
  const std::shared_ptr<StripedCore> alive = shared_from_this();
  StripedRequest* const request = take_request();
  request->direction = direction;
  request->spec = wanted;
  request->data = buffer.data() + wanted.buffer_offset;
  request->buffer = std::move(buffer);
  request->callback = std::move(callback);
  request->cut_to = 0;
  request->failed_at = 0;
  request->memory_lost = false;
  request->cancelled = false;
  request->buffer_withheld = false;
  request->done.store(false, std::memory_order_relaxed);
  request->references.store(references, std::memory_order_relaxed);
  request->core = alive;
  const bool inside =
      wanted.offset <= size_bytes_ && wanted.size_bytes <= size_bytes_ - wanted.offset;
  if (!inside || wanted.size_bytes == 0) {
    if (!inside) {
      fail(request, 0,
           error_of(*request, ErrorKind::kInvalid,
                    "the striped file ends at " + std::to_string(size_bytes_)));
    }
    complete(request);
    return request;
  }
  put_in_queue(request);
  pump();
  return request;
}

// A request that has ended with the error of the owner, without any lock. It has no core.
StripedRequest* StripedCore::refuse_in_child(Direction direction,
                                             const StripedFile::Request& wanted, Buffer buffer,
                                             Engine::Callback callback, bool wants_ticket) {
  Error error = owner_.error(operation_of(direction), members_.front()->file.path());
  error.offset = wanted.offset;
  error.wanted = wanted.size_bytes;
  if (callback) {
    callback({.buffer = std::move(buffer), .transferred = tl::unexpected(std::move(error))});
    return nullptr;
  }
  if (!wants_ticket) return nullptr;
  auto* const request = new StripedRequest;
  request->buffer = std::move(buffer);
  request->transferred = tl::unexpected(std::move(error));
  request->done = true;
  return request;
}

// Urgent ones before all others, and else in the order they came.
void StripedCore::put_in_queue(StripedRequest* request) {
  const MutexLock guard(mutex_);
  StripedRequest* before = last_;
  if (request->spec.priority == Priority::kUrgent) {
    before = nullptr;
    for (StripedRequest* at = first_; at != nullptr; at = at->next) {
      if (at->spec.priority != Priority::kUrgent) break;
      before = at;
    }
  }
  StripedRequest*& link = before == nullptr ? first_ : before->next;
  request->next = std::exchange(link, request);
  if (request->next == nullptr) last_ = request;
  request->queued = true;
}

// Cuts and starts parts while there are any. An Engine that is being destroyed calls back inside
// read() or write(); the running loop then continues, instead of a nested one.
void StripedCore::pump() {
  if (pumping_on_this_thread == this) return;
  const StripedCore* const outer = std::exchange(pumping_on_this_thread, this);
  for (std::uint32_t index = 0; cut(index);) start(index);
  pumping_on_this_thread = outer;
}

bool StripedCore::cut(std::uint32_t& index) {
  const MutexLock guard(mutex_);
  if (first_ == nullptr || free_parts_.empty()) return false;
  StripedRequest* const request = first_;
  const StripedFile::Request& wanted = request->spec;
  index = free_parts_.back();
  free_parts_.pop_back();
  Part& part = parts_[index];
  part.request = request;
  part.at = request->cut_to;
  part.extent = map_.extent_at(wanted.offset + part.at, wanted.size_bytes - part.at);
  request->cut_to += part.extent.size_bytes;
  ++request->outstanding;
  request->memory_out.fetch_add(1, std::memory_order_relaxed);
  request->references.fetch_add(1, std::memory_order_relaxed);
  if (request->cut_to == wanted.size_bytes) drop_from_queue(request);
  return true;
}

void StripedCore::start(std::uint32_t index) {
  const Part& part = own_part(index);  // nobody else's until the Engine has it
  StripedRequest* const request = part.request;
  Member& member = *members_[part.extent.member];
  Buffer memory(request->data + part.at, part.extent.size_bytes, &give_back_part, request);
  const Engine::Request piece_request{.file = &member.file,
                                      .offset = kStripeHeadBytes + part.extent.offset,
                                      .size_bytes = part.extent.size_bytes,
                                      .priority = request->spec.priority,
                                      .deadline = request->spec.deadline};
  Ticket ticket = member.engine->start(
      request->direction, piece_request, std::move(memory),
      [this, index](Completion completion) { part_ended(index, std::move(completion)); });
  bool cancelled = false;
  {
    const MutexLock guard(mutex_);
    parts_[index].ticket = std::move(ticket);
    parts_[index].started = true;
    // The request may be gone, but not before its last part.
    cancelled = !part.ended && part.request->cancelled;
    ticket = retire(index);
  }
  if (cancelled) cancel_part(index);
}

// Gives the part back when nobody needs it any more; the ticket is to be dropped without the lock.
Ticket StripedCore::retire(std::uint32_t index) {
  Part& part = parts_[index];
  if (!part.started || !part.ended || part.cancelling) return {};
  part.request = nullptr;
  part.started = false;
  part.ended = false;
  free_parts_.push_back(index);
  return std::exchange(part.ticket, Ticket());
}

void StripedCore::cancel_part(std::uint32_t index) {
  {
    const MutexLock guard(mutex_);
    Part& part = parts_[index];
    if (!part.started || part.ended || part.cancelling || !part.request->cancelled) return;
    part.cancelling = true;
  }
  own_part(index).ticket.cancel();
  Ticket over;
  {
    const MutexLock guard(mutex_);
    parts_[index].cancelling = false;
    over = retire(index);
  }
  pump();
}

// The request holds the core until the end of complete(), its last part until the end of this.
void StripedCore::part_ended(std::uint32_t index, Completion completion) {
  const Part& part = own_part(index);  // stays as it is until it is retired
  StripedRequest* const request = part.request;
  const std::shared_ptr<StripedCore> alive = request->core;
  Member& member = *members_[part.extent.member];
  const bool ok = completion.transferred.has_value();
  (request->direction == Direction::kRead ? member.read_bytes : member.written_bytes)
      .fetch_add(ok ? part.extent.size_bytes : completion.transferred.error().got,
                 std::memory_order_relaxed);
  // Without its Buffer the memory is still in use: for a while when a deadline passed, else for
  // ever.
  const bool lost =
      !completion.buffer && !ok && completion.transferred.error().kind != ErrorKind::kDeadline;
  completion.buffer = Buffer();
  bool ended = false;
  Ticket over;
  {
    const MutexLock guard(mutex_);
    if (!ok) {
      Error& error = completion.transferred.error();
      const std::uint64_t at = part.at + error.got;
      const std::string where = "byte " + std::to_string(request->spec.offset + at) +
                                " of the striped file is at " +
                                std::to_string(error.offset + error.got) + " there";
      error.detail = error.detail.empty() ? where : where + ": " + error.detail;
      fail(request, at, std::move(error));
      request->memory_lost = request->memory_lost || lost;
      drop_from_queue(request);
    }
    parts_[index].ended = true;
    over = retire(index);
    ended = --request->outstanding == 0 && !request->queued;
  }
  if (ended) complete(request);
  if (lost) give_back_part(request, nullptr, 0);
  pump();
}

void StripedCore::fail(StripedRequest* request, std::uint64_t at, Error error) {
  if (request->failure && request->failed_at <= at) return;
  request->failure = std::move(error);
  request->failed_at = at;
}

void StripedCore::drop_from_queue(StripedRequest* request) {
  if (!std::exchange(request->queued, false)) return;
  StripedRequest* before = nullptr;
  for (StripedRequest* at = first_; at != request; at = at->next) before = at;
  (before == nullptr ? first_ : before->next) = request->next;
  if (last_ == request) last_ = before;
}

Error StripedCore::error_of(const StripedRequest& request, ErrorKind kind,
                            std::string detail) const {
  Error error;
  error.kind = kind;
  error.operation = operation_of(request.direction);
  error.path = members_.front()->file.path();
  error.offset = request.spec.offset;
  error.wanted = request.spec.size_bytes;
  error.detail = std::move(detail);
  return error;
}

void StripedCore::cancel(StripedRequest* request) {
  bool ended = false;
  {
    const MutexLock guard(mutex_);
    if (request->cancelled || (!request->queued && request->outstanding == 0)) return;
    request->cancelled = true;
    if (request->queued) {
      fail(request, request->cut_to, error_of(*request, ErrorKind::kCancelled, "cancelled"));
      drop_from_queue(request);
    }
    ended = request->outstanding == 0;
  }
  if (ended) return complete(request);
  for (std::uint32_t index = 0; index < StripedFile::kMaxParts; ++index) {
    const auto mine = [&] {
      const MutexLock guard(mutex_);
      return parts_[index].request == request;
    };
    if (mine()) cancel_part(index);
  }
}

void StripedCore::cancel_all() {
  for (std::size_t i = 0;; ++i) {
    StripedRequest* request = nullptr;
    {
      const MutexLock guard(mutex_);
      if (i == requests_.size()) return;
      request = requests_[i].get();
      if (!request->queued && request->outstanding == 0) continue;
      request->references.fetch_add(1, std::memory_order_relaxed);
    }
    cancel(request);
    release(request);
  }
}

void StripedCore::complete(StripedRequest* request) {
  if (request->failure) {
    Error& error = *request->failure;
    error.offset = request->spec.offset;
    error.wanted = request->spec.size_bytes;
    error.got = request->failed_at;
    request->transferred = tl::unexpected(std::move(error));
  } else {
    request->transferred = request->spec.size_bytes;
  }
  if (request->memory_lost) request->buffer.leak();
  request->buffer_withheld = request->memory_out.load(std::memory_order_acquire) > 0;
  if (request->callback) {
    Engine::Callback callback = std::move(request->callback);
    Completion completion{.buffer = {}, .transferred = std::move(request->transferred)};
    if (!request->buffer_withheld) completion.buffer = std::move(request->buffer);
    callback(std::move(completion));
  } else {
    // Notified under the lock: the waiter may hand the request back as soon as it is let go.
    const MutexLock guard(request->mutex);
    request->done.store(true, std::memory_order_release);
    request->completed.notify_all();
  }
  release(request);
}

void StripedCore::release(StripedRequest* request) noexcept {
  if (request->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const std::shared_ptr<StripedCore> core = std::move(request->core);
  request->buffer = Buffer();
  request->callback = nullptr;
  request->transferred = std::size_t{0};
  request->failure.reset();
  core->put_request(request);
}

}  // namespace spillway::aio
