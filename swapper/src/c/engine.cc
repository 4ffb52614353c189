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
  options.measure_latency = given.measure_latency != 0;
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
    if (given.reserved != 0) return failed(SPILLWAY_UNSUPPORTED, what, "`reserved` is not 0");
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

spillway_status spillway_engine_get_latency(spillway_engine* engine, int32_t direction,
                                            spillway_latency* latency) {
  return guarded("engine latency", [&] {
    const char* const what = "engine latency";
    auto object = find<EngineObject>(engine, what);
    if (!object) return object.error();
    if (auto status = want_choice(direction, 1, "direction", what)) return status;
    if (!(*object)->engine->options().measure_latency) {
      return failed(SPILLWAY_UNSUPPORTED, what, "the engine was made without measure_latency");
    }
    const aio::LatencyHistogram now = (*object)->engine->latency(
        direction == SPILLWAY_DIRECTION_READ ? aio::Direction::kRead : aio::Direction::kWrite);
    const auto ns = [](aio::LatencyHistogram::Duration duration) {
      return static_cast<std::uint64_t>(duration.count());
    };
    return write_result({.size = 0,
                         .count = now.count(),
                         .mean_ns = ns(now.mean()),
                         .p50_ns = ns(now.percentile(0.5)),
                         .p90_ns = ns(now.percentile(0.9)),
                         .p99_ns = ns(now.percentile(0.99)),
                         .p99_9_ns = ns(now.percentile(0.999)),
                         .max_ns = ns(now.max())},
                        latency, what);
  });
}
