#include "objects.h"
#include "options.h"

using namespace spillway;
using namespace spillway::c;

namespace {

// What is wrong with a request, but for its handles.
spillway_status check(const spillway_io& io, const char* what) {
  if (io.offset > INT64_MAX || io.size_bytes > INT64_MAX - io.offset) {
    return failed(SPILLWAY_MISUSE, what, "no file has bytes at offset + size_bytes");
  }
  if (io.lease != nullptr && io.memory != nullptr) {
    return failed(SPILLWAY_MISUSE, what, "give a lease or memory, not both");
  }
  if (io.lease == nullptr && io.memory == nullptr && io.size_bytes > 0) {
    return failed(SPILLWAY_MISUSE, what, "there is neither a lease nor memory");
  }
  if (io.memory != nullptr && io.deadline_ms != 0) {
    return failed(SPILLWAY_MISUSE, what,
                  "a deadline needs a lease: the kernel may still write into memory of your own");
  }
  return SPILLWAY_OK;
}

// The memory to move: of the lease, which is then in use, or the caller's.
tl::expected<aio::Buffer, spillway_status> memory_of(const spillway_io& io,
                                                     RequestObject::Needs& needs,
                                                     const char* what) {
  if (io.lease == nullptr) {
    return aio::Buffer::borrow({static_cast<std::byte*>(io.memory), io.size_bytes});
  }
  auto lease = find<LeaseObject>(io.lease, what);
  if (!lease) return tl::unexpected(lease.error());
  const std::size_t capacity = (*lease)->capacity;
  if (io.lease_offset > capacity || io.size_bytes > capacity - io.lease_offset) {
    return tl::unexpected(failed(SPILLWAY_MISUSE, what,
                                 std::to_string(io.size_bytes) + " bytes at " +
                                     std::to_string(io.lease_offset) +
                                     " do not fit into a lease of " + std::to_string(capacity)));
  }
  auto buffer = take_buffer(**lease, what);
  if (buffer) needs.lease = Use(std::move(*lease));
  return buffer;
}

spillway_status submit(aio::Direction direction, spillway_engine* engine, const spillway_io* io,
                       spillway_request** request, const char* what) {
  if (auto status = want(request, what)) return status;
  *request = nullptr;
  spillway_io given;
  if (auto status = read_options(io, &given, what, /*may_be_null=*/false)) return status;
  if (auto status = check(given, what)) return status;
  auto found_engine = find<EngineObject>(engine, what);
  if (!found_engine) return found_engine.error();
  auto file = find<FileObject>(given.file, what);
  if (!file) return file.error();
  if (direction == aio::Direction::kWrite && !(*file)->file.writable()) {
    return failed(SPILLWAY_MISUSE, what, (*file)->file.path() + " was not opened writable");
  }
  auto object = std::make_shared<RequestObject>();
  // The handle first: once the engine has the request, nothing may fail.
  if (auto status = give(object, request, what)) return status;
  RequestObject::Needs needs{.engine = Use(std::move(*found_engine)),
                             .file = Use(std::move(*file)),
                             .lease = {},
                             .ticket = {}};
  auto buffer = memory_of(given, needs, what);
  if (!buffer) {
    remove_object(std::exchange(*request, nullptr), Kind::kRequest, what);
    return buffer.error();
  }
  aio::Engine::Request transfer{.file = &needs.file->file,
                                .offset = given.offset,
                                .size_bytes = given.size_bytes,
                                .buffer_offset = given.lease == nullptr ? 0 : given.lease_offset};
  if (given.urgent != 0) transfer.priority = aio::Priority::kUrgent;
  if (given.deadline_ms != 0) transfer.deadline = *deadline_in(given.deadline_ms);
  aio::Engine& target = *needs.engine->engine;
  needs.ticket =
      target.start(direction, transfer, std::move(*buffer), [object](aio::Completion done) {
        const MutexLock lock(object->mutex);
        object->completion = std::move(done);
        object->ended.notify_all();
      });
  const MutexLock lock(object->needs_mutex);
  object->needs = std::move(needs);
  return SPILLWAY_OK;
}

// Tells how a request ended, and gives its lease the memory back.
spillway_status finish(RequestObject::Needs needs, aio::Completion completion, size_t* moved) {
  if (needs.lease) put_back(*needs.lease.get(), pinned_pool::Lease(std::move(completion.buffer)));
  if (!completion.transferred) {
    if (moved != nullptr) *moved = completion.transferred.error().got;
    return failed(completion.transferred.error());
  }
  if (moved != nullptr) *moved = *completion.transferred;
  return SPILLWAY_OK;
}

}  // namespace

spillway_status spillway_read(spillway_engine* engine, const spillway_io* io,
                              spillway_request** request) {
  return guarded("read",
                 [&] { return submit(aio::Direction::kRead, engine, io, request, "read"); });
}

spillway_status spillway_write(spillway_engine* engine, const spillway_io* io,
                               spillway_request** request) {
  return guarded("write",
                 [&] { return submit(aio::Direction::kWrite, engine, io, request, "write"); });
}

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
    RequestObject::Needs needs;
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
    {
      const MutexLock lock(object.needs_mutex);
      needs = std::move(object.needs);
    }
    remove_object(request, Kind::kRequest, "wait");
    return finish(std::move(needs), std::move(completion), moved_bytes);
  });
}

spillway_status spillway_cancel(spillway_request* request) {
  return guarded("cancel", [&] {
    auto object = find<RequestObject>(request, "cancel");
    if (!object) return object.error();
    const MutexLock lock((*object)->needs_mutex);
    if ((*object)->needs.ticket.valid()) (*object)->needs.ticket.cancel();
    return SPILLWAY_OK;
  });
}
