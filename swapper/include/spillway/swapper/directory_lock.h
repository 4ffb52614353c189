// DirectoryLock: one job per swap directory, and a job's leftovers told from a user's files.
//
// Holds flock on `<directory>/spillway.lock`, which lists the files the holder made. Taking the
// lock after a killed job removes exactly the files on that list; nothing else is ever removed.
// Dropping the lock removes the listed files that remain and the lock file. A job takes the lock
// once and shares it among all that it opens on the directory. Thread-safe; every call blocks.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace spillway::swapper {

class SPILLWAY_API DirectoryLock {
 public:
  static constexpr const char* kFileName = "spillway.lock";

  // kBusy (naming the holder's process id) when another job, or another lock of this process, has
  // it; kNotFound, kPermission; kInvalid when a foreign file has the lock's name.
  static Result<std::shared_ptr<DirectoryLock>> acquire(const std::filesystem::path& directory);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

  const std::filesystem::path& directory() const noexcept;
  // Puts names on the list, durably, before the files are made. kBusy, listing none of them, when
  // a file of one of the names exists: it is somebody else's. REQUIRES: plain file names.
  Result<void> will_create(std::span<const std::string> file_names);
  // Takes names off the list: their files are removed, or were never made.
  void removed(std::span<const std::string> file_names) noexcept;
  // Files of an earlier, killed job that were removed.
  std::size_t leftovers_removed() const noexcept;

 private:
  struct SPILLWAY_LOCAL State;
  explicit DirectoryLock(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace spillway::swapper
