#include "forked_child.h"

#include <utility>

namespace spillway::aio {

// A request that was refused has no pool.
bool usable(const PendingRequest& request) noexcept {
  return request.pool != nullptr && request.pool->owner().is_here();
}

PendingRequest* refuse_in_child(const OwnerProcess& owner, Direction direction,
                                const Engine::Request& wanted, Buffer buffer,
                                Engine::Callback callback, bool wants_ticket) {
  Error error = owner.error(direction == Direction::kRead ? "read" : "write", wanted.file->path());
  error.offset = wanted.offset;
  error.wanted = wanted.size_bytes;
  Completion completion{.buffer = std::move(buffer), .transferred = tl::unexpected(error)};
  if (callback) callback(std::exchange(completion, {{}, tl::unexpected(std::move(error))}));
  if (!wants_ticket) return nullptr;
  auto* const request = new PendingRequest;
  request->buffer = std::move(completion.buffer);
  request->transferred = std::move(completion.transferred);
  request->done = true;
  return request;
}

Completion completion_in_child(PendingRequest* request) {
  // Of the parent's request nothing else may be read: a thread may have been about to change it.
  if (request->pool != nullptr) {
    return {.buffer = {}, .transferred = tl::unexpected(request->pool->owner().error("wait"))};
  }
  Completion completion{.buffer = std::move(request->buffer),
                        .transferred = std::move(request->transferred)};
  delete request;
  return completion;
}

void drop_in_child(PendingRequest* request) noexcept {
  if (request->pool == nullptr) delete request;
}

}  // namespace spillway::aio
