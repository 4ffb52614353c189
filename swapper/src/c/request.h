// The object behind a spillway_request, of whatever kind: what is in flight, and who waits for it.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "objects.h"

namespace spillway::c {

struct RequestObject;

// Operation: a transfer with the objects that it needs. The waiting thread drops it, because an
// engine thread may be the last to hold the RequestObject.
class Operation {
 public:
  virtual ~Operation() = default;
  // Starts the transfer. At its end it calls `request->complete`, which may be at once. After a
  // failure nothing is in flight. Called once, first.
  virtual spillway_status start(std::shared_ptr<RequestObject> request) = 0;
  // Implement spillway_cancel() and spillway_expedite().
  virtual spillway_status cancel() = 0;
  virtual spillway_status expedite() = 0;
  // Gives the lease its memory again and returns the outcome, once `request` is complete. `moved`,
  // the number of bytes, may be NULL. Called once, last.
  virtual spillway_status finish(aio::Completion completion, std::size_t* moved) = 0;
};

// Watcher: a thread that waits for one of several requests.
struct Watcher {
  Mutex mutex;  // taken after that of a RequestObject
  CondVar changed;
  bool woken SPILLWAY_GUARDED_BY(mutex) = false;
};

struct RequestObject : Object {
  static constexpr Kind kKind = Kind::kRequest;
  RequestObject() : Object(kKind) {}
  // Wakes who waits. Does nothing the second time.
  void complete(aio::Completion completion);

  Mutex operation_mutex;  // taken first: a start or a cancel may complete the request at once
  std::unique_ptr<Operation> operation SPILLWAY_GUARDED_BY(operation_mutex);
  Mutex mutex;
  CondVar ended;
  std::optional<aio::Completion> completion SPILLWAY_GUARDED_BY(mutex);
  bool waited SPILLWAY_GUARDED_BY(mutex) = false;
  std::vector<std::shared_ptr<Watcher>> watchers SPILLWAY_GUARDED_BY(mutex);
};

// Starts the operation and gives the caller a handle for it; none after a failure.
spillway_status start_request(std::unique_ptr<Operation> operation, spillway_request** request,
                              const char* what);

}  // namespace spillway::c
