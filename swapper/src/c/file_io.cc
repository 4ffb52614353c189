#include "io_memory.h"
#include "options.h"
#include "request.h"

using namespace spillway;
using namespace spillway::c;

namespace {

class FileOperation final : public Operation {
 public:
  FileOperation(aio::Direction direction, Use<EngineObject> engine, Use<FileObject> file,
                IoMemory memory, const spillway_io& io, const char* what)
      : direction_(direction),
        engine_(std::move(engine)),
        file_(std::move(file)),
        memory_(std::move(memory)),
        io_(io),
        what_(what) {}

  spillway_status start(std::shared_ptr<RequestObject> request) override {
    auto buffer = memory_.take(what_);
    if (!buffer) return buffer.error();
    ticket_ = engine_->engine->start(direction_, transfer(), std::move(*buffer),
                                     [request = std::move(request)](aio::Completion done) {
                                       request->complete(std::move(done));
                                     });
    return SPILLWAY_OK;
  }
  // Instead of `start` and `finish`.
  spillway_status move_and_wait(std::size_t* moved) {
    auto buffer = memory_.take(what_);
    if (!buffer) return buffer.error();
    aio::Engine& engine = *engine_->engine;
    return memory_.put_back(direction_ == aio::Direction::kRead
                                ? engine.read_and_wait(transfer(), std::move(*buffer))
                                : engine.write_and_wait(transfer(), std::move(*buffer)),
                            moved);
  }
  spillway_status cancel() override {
    ticket_.cancel();
    return SPILLWAY_OK;
  }
  spillway_status expedite() override {
    ticket_.expedite();
    return SPILLWAY_OK;
  }
  spillway_status finish(aio::Completion completion, std::size_t* moved) override {
    return memory_.put_back(std::move(completion), moved);
  }

 private:
  aio::Engine::Request transfer() const {
    aio::Engine::Request transfer{.file = &file_->file,
                                  .offset = io_.offset,
                                  .size_bytes = io_.size_bytes,
                                  .buffer_offset = memory_.offset()};
    if (io_.urgent != 0) transfer.priority = aio::Priority::kUrgent;
    if (io_.deadline_ms != 0) transfer.deadline = *deadline_in(io_.deadline_ms);
    return transfer;
  }

  const aio::Direction direction_;
  const Use<EngineObject> engine_;
  const Use<FileObject> file_;
  IoMemory memory_;
  const spillway_io io_;
  const char* const what_;
  aio::Ticket ticket_;
};

tl::expected<std::unique_ptr<FileOperation>, spillway_status> check(aio::Direction direction,
                                                                    spillway_engine* engine,
                                                                    const spillway_io* io,
                                                                    const char* what) {
  spillway_io given;
  if (auto status = read_options(io, &given, what, /*may_be_null=*/false)) {
    return tl::unexpected(status);
  }
  auto memory = IoMemory::of(given, what);
  if (!memory) return tl::unexpected(memory.error());
  auto found_engine = find<EngineObject>(engine, what);
  if (!found_engine) return tl::unexpected(found_engine.error());
  auto file = find<FileObject>(given.file, what);
  if (!file) return tl::unexpected(file.error());
  if (direction == aio::Direction::kWrite && !(*file)->file.writable()) {
    return tl::unexpected(
        failed(SPILLWAY_MISUSE, what, (*file)->file.path() + " was not opened writable"));
  }
  return std::make_unique<FileOperation>(direction, Use(std::move(*found_engine)),
                                         Use(std::move(*file)), std::move(*memory), given, what);
}

spillway_status submit(aio::Direction direction, spillway_engine* engine, const spillway_io* io,
                       spillway_request** request, const char* what) {
  if (auto status = want(request, what)) return status;
  *request = nullptr;
  auto operation = check(direction, engine, io, what);
  if (!operation) return operation.error();
  return start_request(std::move(*operation), request, what);
}

spillway_status move_and_wait(aio::Direction direction, spillway_engine* engine,
                              const spillway_io* io, size_t* moved_bytes, const char* what) {
  if (moved_bytes != nullptr) *moved_bytes = 0;
  auto operation = check(direction, engine, io, what);
  return operation ? (*operation)->move_and_wait(moved_bytes) : operation.error();
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

spillway_status spillway_read_and_wait(spillway_engine* engine, const spillway_io* io,
                                       size_t* moved_bytes) {
  return guarded("read", [&] {
    return move_and_wait(aio::Direction::kRead, engine, io, moved_bytes, "read");
  });
}

spillway_status spillway_write_and_wait(spillway_engine* engine, const spillway_io* io,
                                        size_t* moved_bytes) {
  return guarded("write", [&] {
    return move_and_wait(aio::Direction::kWrite, engine, io, moved_bytes, "write");
  });
}
