// StoreNames: the name of one store in its directories, for as long as the store lives. Its files
// would else meet those of another store. Move-only. Threads: one at a time.
#pragma once

#include <spillway/swapper/directory_lock.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace spillway::swapper {

class StoreNames {
 public:
  // Takes the name under each of the locks. kBusy if a store has it.
  static Result<StoreNames> take(const std::vector<std::shared_ptr<DirectoryLock>>& locks,
                                 const std::string& name) {
    StoreNames names;
    names.name_ = name;
    for (const std::shared_ptr<DirectoryLock>& lock : locks) {
      bool has_it = false;  // two of the directories may be the same
      for (const auto& other : names.locks_) has_it = has_it || other == lock;
      if (has_it) continue;
      if (auto added = lock->add_store(name); !added) {
        return tl::unexpected(std::move(added.error()));
      }
      names.locks_.push_back(lock);
    }
    return names;
  }
  StoreNames() = default;
  StoreNames(StoreNames&&) noexcept = default;
  StoreNames& operator=(StoreNames&&) = delete;
  ~StoreNames() {
    for (const std::shared_ptr<DirectoryLock>& lock : locks_) lock->remove_store(name_);
  }

 private:
  std::vector<std::shared_ptr<DirectoryLock>> locks_;
  std::string name_;
};

}  // namespace spillway::swapper
