#include "objects.h"
#include "options.h"

using namespace spillway;
using namespace spillway::c;

spillway_status spillway_lock_acquire(const char* directory, spillway_lock** lock) {
  return guarded("lock directory", [&] {
    const char* const what = "lock directory";
    if (auto status = want(lock, what)) return status;
    *lock = nullptr;
    if (directory == nullptr) return failed(SPILLWAY_MISUSE, what, "the directory is NULL");
    auto object = std::make_shared<LockObject>();
    auto acquired = swapper::DirectoryLock::acquire(directory);
    if (!acquired) return failed(acquired.error());
    object->lock = std::move(*acquired);
    return give(std::move(object), lock, what);
  });
}

spillway_status spillway_lock_release(spillway_lock* lock) {
  return guarded("release lock", [&] { return remove_object(lock, Kind::kLock, "release lock"); });
}
