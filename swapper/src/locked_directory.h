// LockedDirectory: what the DirectoryLocks of one process on one directory know of each other.
#pragma once

#include <spillway/aio/mutex.h>
#include <spillway/swapper/directory_lock.h>
#include <sys/stat.h>

#include <memory>

namespace spillway::swapper {

struct LockedDirectory {
  LockedDirectory() = default;
  ~LockedDirectory();  // leaves the registry

  Mutex mutex;
  CondVar released;
  // A lock of this process exists, until it has dropped its last file.
  bool held SPILLWAY_GUARDED_BY(mutex) = false;
  bool shareable SPILLWAY_GUARDED_BY(mutex) = false;  // it was made by `share`
  std::weak_ptr<DirectoryLock> shared SPILLWAY_GUARDED_BY(mutex);
};

// Returns the one entry of the directory, whatever path leads to it, in this process: a forked
// child has entries of its own. Threads: any.
std::shared_ptr<LockedDirectory> locked_directory(const struct stat& directory);

}  // namespace spillway::swapper
