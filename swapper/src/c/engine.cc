#include "objects.h"
#include "options.h"

namespace spillway::c {
namespace {

aio::EngineOptions engine_options(const spillway_engine_options& given) {
  aio::EngineOptions options;
  if (given.backend == SPILLWAY_BACKEND_IO_URING) options.backend = aio::BackendKind::kIoUring;
  if (given.backend == SPILLWAY_BACKEND_THREADS) options.backend = aio::BackendKind::kThreadPool;
  if (given.block_size_bytes != 0) options.block_size_bytes = given.block_size_bytes;
  if (given.queue_depth != 0) options.queue_depth = given.queue_depth;
  if (given.thread_count != 0) options.thread_count = given.thread_count;
  options.single_submit = given.single_submit != 0;
  if (given.drain_timeout_ms != 0) {
    options.drain_timeout = std::chrono::milliseconds(given.drain_timeout_ms);
  }
  return options;
}

}  // namespace
}  // namespace spillway::c

using namespace spillway;
using namespace spillway::c;

spillway_status spillway_engine_create(const spillway_engine_options* options,
                                       spillway_engine** engine) {
  return guarded("create engine", [&] {
    const char* const what = "create engine";
    if (auto status = want(engine, what)) return status;
    *engine = nullptr;
    spillway_engine_options given;
    if (auto status = read_options(options, &given, what)) return status;
    if (auto status = want_choice(given.backend, 2, "backend", what)) return status;
    auto object = std::make_shared<EngineObject>();
    object->log = {given.log, given.log_context};
    aio::EngineOptions wanted = engine_options(given);
    wanted.log = object->log.callback();
    auto made = aio::Engine::create(wanted);
    if (!made) return failed(made.error());
    object->engine = std::move(*made);
    return give(std::move(object), engine, what);
  });
}

spillway_status spillway_engine_destroy(spillway_engine* engine) {
  return guarded("destroy engine",
                 [&] { return remove_object(engine, Kind::kEngine, "destroy engine"); });
}

spillway_status spillway_engine_choice(spillway_engine* engine, const char** choice) {
  return guarded("engine choice", [&] {
    if (auto status = want(choice, "engine choice")) return status;
    *choice = nullptr;
    auto object = find<EngineObject>(engine, "engine choice");
    if (!object) return object.error();
    *choice = (*object)->engine->choice().c_str();
    return SPILLWAY_OK;
  });
}

spillway_status spillway_engine_get_stats(spillway_engine* engine, spillway_engine_stats* stats) {
  return guarded("engine stats", [&] {
    auto object = find<EngineObject>(engine, "engine stats");
    if (!object) return object.error();
    const aio::EngineStats now = (*object)->engine->stats();
    return write_result({.size = 0,
                         .read_bytes = now.read_bytes,
                         .written_bytes = now.written_bytes,
                         .read_operations = now.read_operations,
                         .write_operations = now.write_operations,
                         .short_transfers = now.short_transfers,
                         .retries = now.retries,
                         .system_calls = now.system_calls},
                        stats, "engine stats");
  });
}
