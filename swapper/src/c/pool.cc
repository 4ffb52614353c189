#include "objects.h"
#include "options.h"

using namespace spillway;
using namespace spillway::c;

namespace {

spillway_status check(const spillway_pool_options& given, const void* engine, const char* what) {
  if (given.buffer_bytes == 0) return failed(SPILLWAY_MISUSE, what, "buffer_bytes is 0");
  if (given.buffer_count == 0) return failed(SPILLWAY_MISUSE, what, "buffer_count is 0");
  if (auto status = want_choice(given.huge_pages, 2, "huge_pages", what)) return status;
  if (auto status = want_choice(given.lock, 2, "lock", what)) return status;
  if (auto status = want_choice(given.registration, 2, "registration", what)) return status;
  if (given.registration == SPILLWAY_REQUIRED && engine == nullptr) {
    return failed(SPILLWAY_MISUSE, what, "registration is required, and the engine is NULL");
  }
  return SPILLWAY_OK;
}

}  // namespace

spillway_status spillway_pool_create(spillway_engine* engine, const spillway_pool_options* options,
                                     spillway_pool** pool) {
  return guarded("create pool", [&] {
    const char* const what = "create pool";
    if (auto status = want(pool, what)) return status;
    *pool = nullptr;
    spillway_pool_options given;
    if (auto status = read_options(options, &given, what, /*may_be_null=*/false)) return status;
    if (auto status = check(given, engine, what)) return status;
    auto object = std::make_shared<PoolObject>();
    object->log = {given.log, given.log_context};
    if (engine != nullptr) {
      auto found = find<EngineObject>(engine, what);
      if (!found) return found.error();
      object->engine = Use(std::move(*found));
    }
    auto made =
        pinned_pool::Pool::create({.buffer_bytes = given.buffer_bytes,
                                   .buffer_count = given.buffer_count,
                                   .name = given.name == nullptr ? "" : given.name,
                                   .huge_pages = policy_of(given.huge_pages),
                                   .lock = policy_of(given.lock),
                                   .registration = policy_of(given.registration),
                                   .log = object->log.callback()},
                                  engine == nullptr ? nullptr : object->engine->engine.get());
    if (!made) return failed(made.error());
    object->pool = std::move(*made);
    return give(std::move(object), pool, what);
  });
}

spillway_status spillway_pool_destroy(spillway_pool* pool) {
  return guarded("destroy pool", [&] { return remove_object(pool, Kind::kPool, "destroy pool"); });
}

spillway_status spillway_pool_available(spillway_pool* pool, size_t* count) {
  return guarded("pool available", [&] {
    if (auto status = want(count, "pool available")) return status;
    *count = 0;
    auto object = find<PoolObject>(pool, "pool available");
    if (!object) return object.error();
    *count = (*object)->pool->available();
    return SPILLWAY_OK;
  });
}

spillway_status spillway_lease_acquire(spillway_pool* pool, int64_t timeout_ms,
                                       spillway_lease** lease) {
  return guarded("acquire lease", [&] {
    const char* const what = "acquire lease";
    if (auto status = want(lease, what)) return status;
    *lease = nullptr;
    auto found = find<PoolObject>(pool, what);
    if (!found) return found.error();
    auto object = std::make_shared<LeaseObject>();
    object->pool = Use(std::move(*found));
    pinned_pool::Pool& buffers = *object->pool->pool;
    const auto deadline = deadline_in(timeout_ms);
    pinned_pool::Lease taken = deadline ? buffers.acquire_until(*deadline) : buffers.acquire();
    if (!taken) {
      return failed(SPILLWAY_WAIT_TIMEOUT, what,
                    "all " + std::to_string(buffers.buffer_count()) + " buffers are out");
    }
    object->capacity = taken.capacity();
    put_back(*object, std::move(taken));
    return give(std::move(object), lease, what);
  });
}

spillway_status spillway_lease_memory(spillway_lease* lease, void** memory,
                                      size_t* capacity_bytes) {
  return guarded("lease memory", [&] {
    if (auto status = want(memory, "lease memory")) return status;
    *memory = nullptr;
    auto object = find<LeaseObject>(lease, "lease memory");
    if (!object) return object.error();
    auto buffer = take_buffer(**object, "lease memory");
    if (!buffer) return buffer.error();
    *memory = buffer->data();
    put_back(**object, pinned_pool::Lease(std::move(*buffer)));
    if (capacity_bytes != nullptr) *capacity_bytes = (*object)->capacity;
    return SPILLWAY_OK;
  });
}

spillway_status spillway_lease_release(spillway_lease* lease) {
  return guarded("release lease",
                 [&] { return remove_object(lease, Kind::kLease, "release lease"); });
}
