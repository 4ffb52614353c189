// DirectoryLock: one job per swap directory, and a list of the job's files.
//
// It holds flock on `<directory>/spillway.lock`, a file with the names of the files that the holder
// creates. Acquiring the lock after a killed job removes exactly the files on that list, and never
// another file: only regular ones whose names this library gives, and only if the list belongs to
// the process's effective user. Dropping the lock removes the listed files that remain, and the
// lock file. A job acquires the lock once and shares it among its stores. Threads: any; every call
// blocks. In a forked child calls fail and the destructor removes nothing: the lock stays the
// parent's.
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
  // How the names of all files on a list begin and end.
  static constexpr const char* kNamePrefix = "spillway-";
  static constexpr const char* kNameSuffix = ".seg";

  // Acquires the lock. kBusy, with the holder's process id, if another job or another object of
  // this process holds it; kNotFound; kPermission, also if a killed job of another user left
  // files; kInvalid if a foreign file has the lock's name; kUnsupported, with the way
  // out, on a filesystem without flock (some mounts of Lustre and NFS).
  static Result<std::shared_ptr<DirectoryLock>> acquire(const std::filesystem::path& directory);
  // Returns the lock that an earlier `share` of this process made and that still exists, or
  // acquires it. Errors as `acquire`; kBusy also if this process has the lock by `acquire`.
  static Result<std::shared_ptr<DirectoryLock>> share(const std::filesystem::path& directory);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

  // Returns the path from the root as it was when the lock was made.
  const std::filesystem::path& directory() const noexcept;
  // Adds names to the list, durably, before the files are created. kBusy, and no name is added, if
  // a file of one of the names exists: it belongs to somebody else. REQUIRES: file names with
  // kNamePrefix and kNameSuffix.
  Result<void> will_create(std::span<const std::string> file_names);
  // Removes names from the list: their files were removed, or never created.
  void removed(std::span<const std::string> file_names) noexcept;
  // Reserves a store's name, the prefix of its files, until `remove_store`. kBusy if it is taken.
  Result<void> add_store(const std::string& name);
  // Lets another store have the name.
  void remove_store(const std::string& name) noexcept;
  // Returns the number of files of a killed job that were removed.
  std::size_t leftovers_removed() const noexcept;

 private:
  struct SPILLWAY_LOCAL State;
  explicit DirectoryLock(std::unique_ptr<State> state);
  SPILLWAY_LOCAL static Result<std::shared_ptr<DirectoryLock>> take(
      const std::filesystem::path& directory, bool shareable);
  SPILLWAY_LOCAL static Result<std::shared_ptr<DirectoryLock>> make(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace spillway::swapper
