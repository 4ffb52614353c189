#include "locked_directory.h"

#include <spillway/aio/owner_process.h>

#include <atomic>
#include <map>
#include <utility>

namespace spillway::swapper {
namespace {

struct Registry {
  const aio::OwnerProcess owner;
  Mutex mutex;
  std::map<LockedDirectory::Key, std::weak_ptr<LockedDirectory>> entries SPILLWAY_GUARDED_BY(mutex);
};

// Of the whole process, as the locks are. It is never destroyed: locks may end after it would be. A
// forked child, in which a mutex may be locked for ever, makes another one.
Registry& registry() {
  static std::atomic<Registry*> current{nullptr};
  Registry* now = current.load();
  while (now == nullptr || !now->owner.is_here()) {
    auto made = std::make_unique<Registry>();
    if (current.compare_exchange_strong(now, made.get())) return *made.release();
  }
  return *now;
}

}  // namespace

std::shared_ptr<LockedDirectory> locked_directory(const struct stat& directory) {
  const LockedDirectory::Key key(directory.st_dev, directory.st_ino);
  // Before the lock, which its destructor takes.
  const auto made = std::make_shared<LockedDirectory>(key);
  Registry& all = registry();
  const MutexLock lock(all.mutex);
  std::weak_ptr<LockedDirectory>& known = all.entries[key];
  if (auto entry = known.lock()) return entry;
  known = made;
  return made;
}

// Another one may have its place by now.
LockedDirectory::~LockedDirectory() {
  Registry& all = registry();
  const MutexLock lock(all.mutex);
  const auto known = all.entries.find(key);
  if (known != all.entries.end() && known->second.expired()) all.entries.erase(known);
}

}  // namespace spillway::swapper
