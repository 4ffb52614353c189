// DirectoryLock: one job per swap directory, and a job's leftovers told from a user's files.
//
// Holds flock on `<directory>/spillway.lock`, which lists the files the holder made. Taking the
// lock after a killed job removes exactly the files on that list; nothing else is ever removed.
// Dropping the lock removes the listed files that remain and the lock file.
#pragma once

#include <filesystem>
#include <memory>
#include <spillway/aio/error.h>
#include <string>

namespace spillway::swapper {

class DirectoryLock {
 public:
  // kBusy (naming the holder's process id) when another job has it, kNotFound, kPermission.
  // One process may hold several locks on one directory through `share`d ones only.
  static Result<std::shared_ptr<DirectoryLock>> acquire(const std::filesystem::path& directory);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

  // Puts a file name on the list, durably, before the file is made.
  Result<void> will_create(const std::string& file_name);
  // Files of an earlier, killed job that were removed.
  std::size_t leftovers_removed() const noexcept;

 private:
  struct State;
  explicit DirectoryLock(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace spillway::swapper
