#include "locked_directory.h"

#include <spillway/aio/owner_process.h>

#include <atomic>
#include <cstddef>
#include <map>
#include <new>
#include <utility>

namespace spillway::swapper {
namespace {

struct Registry {
  const aio::OwnerProcess owner;
  Mutex mutex;
  std::map<std::pair<dev_t, ino_t>, std::weak_ptr<LockedDirectory>> entries
      SPILLWAY_GUARDED_BY(mutex);
};

// Of the whole process, as the locks are. It is never destroyed: locks may end after it would be. A
// forked child, in which a mutex may be locked for ever, makes another one.
Registry& registry() {
  alignas(Registry) static std::byte storage[sizeof(Registry)];
  static std::atomic<Registry*> current{new (storage) Registry};
  Registry* now = current.load();
  while (!now->owner.is_here()) {
    auto made = std::make_unique<Registry>();
    if (current.compare_exchange_strong(now, made.get())) return *made.release();
  }
  return *now;
}

}  // namespace

LockedDirectory::~LockedDirectory() {
  Registry& all = registry();
  const MutexLock lock(all.mutex);
  std::erase_if(all.entries, [](const auto& entry) { return entry.second.expired(); });
}

std::shared_ptr<LockedDirectory> locked_directory(const struct stat& directory) {
  Registry& all = registry();
  // Before the lock, which its destructor takes.
  const auto made = std::make_shared<LockedDirectory>();
  const MutexLock lock(all.mutex);
  std::weak_ptr<LockedDirectory>& known = all.entries[{directory.st_dev, directory.st_ino}];
  if (auto entry = known.lock()) return entry;
  known = made;
  return made;
}

}  // namespace spillway::swapper
