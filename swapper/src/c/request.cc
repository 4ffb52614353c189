#include "request.h"

#include "options.h"

using namespace spillway;
using namespace spillway::c;

namespace spillway::c {

void RequestObject::complete(aio::Completion done) {
  const MutexLock lock(mutex);
  if (completion) return;
  completion = std::move(done);
  ended.notify_all();
  for (const std::shared_ptr<Watcher>& watcher : watchers) {
    const MutexLock guard(watcher->mutex);
    watcher->woken = true;
    watcher->changed.notify_all();
  }
}

spillway_status start_request(std::unique_ptr<Operation> operation, spillway_request** request,
                              const char* what) {
  auto object = std::make_shared<RequestObject>();
  // The handle first: once the engine has the request, nothing may fail.
  if (auto status = give(object, request, what)) return status;
  const spillway_status status = guarded(what, [&] {
    const MutexLock lock(object->operation_mutex);
    object->operation = std::move(operation);
    return object->operation->start(object);
  });
  if (status == SPILLWAY_OK) return status;
  remove_object(std::exchange(*request, nullptr), Kind::kRequest, what);
  return status;
}

namespace {

// The requests that a thread watches while this exists.
class Watch {
 public:
  Watch() = default;
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() {
    for (const auto& [index, request] : requests_) {
      const MutexLock lock(request->mutex);
      std::erase(request->watchers, watcher_);
    }
  }

  void add(std::size_t index, std::shared_ptr<RequestObject> request) {
    requests_.emplace_back(index, std::move(request));
    RequestObject& added = *requests_.back().second;
    const MutexLock lock(added.mutex);
    added.watchers.push_back(watcher_);
  }
  bool empty() const noexcept { return requests_.empty(); }
  // Returns the index of the first one that is complete.
  std::optional<std::size_t> complete() const {
    for (const auto& [index, request] : requests_) {
      const MutexLock lock(request->mutex);
      if (request->completion) return index;
    }
    return std::nullopt;
  }
  // Blocks until one was completed since the last call, or since it was added. False: too late.
  bool wait(std::optional<std::chrono::steady_clock::time_point> deadline) {
    MutexLock lock(watcher_->mutex);
    const auto woken = [&]() SPILLWAY_REQUIRES(watcher_->mutex) { return watcher_->woken; };
    if (deadline) {
      watcher_->changed.wait_until(lock, *deadline, woken);
    } else {
      watcher_->changed.wait(lock, woken);
    }
    return std::exchange(watcher_->woken, false);
  }

 private:
  const std::shared_ptr<Watcher> watcher_ = std::make_shared<Watcher>();
  std::vector<std::pair<std::size_t, std::shared_ptr<RequestObject>>> requests_;
};

spillway_status wait_any(spillway_request* const* requests, std::size_t count,
                         std::int64_t timeout_ms, std::size_t* index, const char* what) {
  if (auto status = want(index, what)) return status;
  *index = 0;
  if (requests == nullptr) return failed(SPILLWAY_MISUSE, what, "the requests are NULL");
  const auto deadline = deadline_in(timeout_ms);
  Watch watch;
  for (std::size_t i = 0; i < count; ++i) {
    if (requests[i] == nullptr) continue;
    auto request = find<RequestObject>(requests[i], what);
    if (!request) return request.error();
    watch.add(i, std::move(*request));
  }
  if (watch.empty()) return failed(SPILLWAY_MISUSE, what, "there is no request to wait for");
  for (bool in_time = true;; in_time = watch.wait(deadline)) {
    if (const auto complete = watch.complete()) {
      *index = *complete;
      return SPILLWAY_OK;
    }
    if (!in_time) return failed(SPILLWAY_WAIT_TIMEOUT, what, "none of the requests is done");
  }
}

}  // namespace
}  // namespace spillway::c

spillway_status spillway_request_done(spillway_request* request, int* done) {
  return guarded("request done", [&] {
    if (auto status = want(done, "request done")) return status;
    *done = 0;
    auto object = find<RequestObject>(request, "request done");
    if (!object) return object.error();
    const MutexLock lock((*object)->mutex);
    *done = (*object)->completion.has_value();
    return SPILLWAY_OK;
  });
}

spillway_status spillway_wait(spillway_request* request, int64_t timeout_ms, size_t* moved_bytes) {
  return guarded("wait", [&] {
    if (moved_bytes != nullptr) *moved_bytes = 0;
    auto found = find<RequestObject>(request, "wait");
    if (!found) return found.error();
    RequestObject& object = **found;
    aio::Completion completion;
    {
      MutexLock lock(object.mutex);
      const auto ended = [&]() SPILLWAY_REQUIRES(object.mutex) {
        return object.completion.has_value();
      };
      if (const auto deadline = deadline_in(timeout_ms)) {
        if (!object.ended.wait_until(lock, *deadline, ended)) {
          return failed(SPILLWAY_WAIT_TIMEOUT, "wait", "the request is still under way");
        }
      } else {
        object.ended.wait(lock, ended);
      }
      if (std::exchange(object.waited, true)) {
        return failed(SPILLWAY_BAD_HANDLE, "wait", "another thread waited for the request");
      }
      completion.buffer = std::move(object.completion->buffer);
      completion.transferred = std::move(object.completion->transferred);
    }
    std::unique_ptr<Operation> operation;
    {
      const MutexLock lock(object.operation_mutex);
      operation = std::move(object.operation);
    }
    remove_object(request, Kind::kRequest, "wait");
    return operation->finish(std::move(completion), moved_bytes);
  });
}

spillway_status spillway_wait_any(spillway_request* const* requests, size_t count,
                                  int64_t timeout_ms, size_t* index) {
  return guarded("wait any",
                 [&] { return wait_any(requests, count, timeout_ms, index, "wait any"); });
}

spillway_status spillway_cancel(spillway_request* request) {
  return guarded("cancel", [&] {
    auto object = find<RequestObject>(request, "cancel");
    if (!object) return object.error();
    const MutexLock lock((*object)->operation_mutex);
    Operation* const operation = (*object)->operation.get();
    return operation == nullptr ? SPILLWAY_OK : operation->cancel();  // NULL: it was waited for
  });
}

spillway_status spillway_expedite(spillway_request* request) {
  return guarded("expedite", [&] {
    auto object = find<RequestObject>(request, "expedite");
    if (!object) return object.error();
    const MutexLock lock((*object)->operation_mutex);
    Operation* const operation = (*object)->operation.get();
    return operation == nullptr ? SPILLWAY_OK : operation->expedite();
  });
}
