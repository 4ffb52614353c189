#include <fcntl.h>
#include <spillway/aio/check.h>
#include <spillway/aio/file.h>
#include <spillway/aio/mutex.h>
#include <spillway/aio/owner_process.h>
#include <spillway/aio/signals.h>
#include <spillway/swapper/directory_lock.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <set>
#include <string_view>
#include <utility>

#include "descriptor.h"
#include "locked_directory.h"

namespace spillway::swapper {
namespace {

// The lock file is a journal: "spillway-lock 1 <pid>", then "+name" for a file that may exist from
// here on and "-name" for one that is gone. A line without its newline was never finished, and
// then its file was never made.
constexpr std::string_view kMagic = "spillway-lock 1 ";

// A file of the directory itself, of a name that only this library gives. Whatever else a list
// names, it is not removed.
bool name_of_ours(const std::string& name) {
  return name.starts_with(DirectoryLock::kNamePrefix) &&
         name.ends_with(DirectoryLock::kNameSuffix) &&
         name.find_first_of(std::string_view("/\n\0", 3)) == std::string::npos;
}

Result<std::string> read_all(int fd, const std::string& path) {
  std::string text;
  char chunk[4096];
  for (;;) {
    const ssize_t n = ::pread(fd, chunk, sizeof chunk, static_cast<off_t>(text.size()));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("read", path, errno);
    if (n == 0) return text;
    text.append(chunk, static_cast<std::size_t>(n));
  }
}

Result<void> write_all(int fd, const std::string& path, std::string_view text, off_t offset) {
  const aio::FileSizeLimit limit;
  while (!text.empty()) {
    const ssize_t n = ::pwrite(fd, text.data(), text.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("write", path, errno);
    text.remove_prefix(static_cast<std::size_t>(n));
    offset += n;
  }
  return {};
}

std::string holder(const std::string& journal) {
  const std::string_view text(journal);
  if (!text.starts_with(kMagic)) return "another process (it has not said which yet)";
  return "process " + std::string(text.substr(kMagic.size(), text.find('\n') - kMagic.size()));
}

// Names that the journal says may still exist.
std::set<std::string> listed_files(const std::string& journal) {
  std::set<std::string> names;
  std::size_t start = 0;
  for (std::size_t end; (end = journal.find('\n', start)) != std::string::npos; start = end + 1) {
    if (end == start) continue;
    const std::string name = journal.substr(start + 1, end - start - 1);
    if (!name_of_ours(name)) continue;
    if (journal[start] == '+') names.insert(name);
    if (journal[start] == '-') names.erase(name);
  }
  return names;
}

// A list that another user can write would make this one remove files for him.
Result<void> check_owner(int fd, const std::string& path, std::size_t files) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return errno_error("lock", path, errno);
  const uid_t user = ::geteuid();
  if (files == 0 || status.st_uid == user) return {};
  return make_error(ErrorKind::kPermission, "lock", path,
                    "it belongs to user " + std::to_string(status.st_uid) + ", this process to " +
                        std::to_string(user) + ": the " + std::to_string(files) +
                        " files that it lists are not removed. Remove them and the list as user " +
                        std::to_string(status.st_uid) + ", or choose another directory");
}

tl::unexpected<Error> not_ours(const std::string& path) {
  return make_error(ErrorKind::kInvalid, "lock", path,
                    "a file of this name is there and is no lock of ours; it is left alone: move "
                    "it away or choose another directory");
}

// The kernel has no flock here, or nobody answers it.
bool no_flock(int errno_value) {
  return errno_value == ENOSYS || errno_value == EOPNOTSUPP || errno_value == ENOLCK;
}

tl::unexpected<Error> no_locks(const std::string& path, int errno_value) {
  auto error =
      errno_error("lock", path, errno_value,
                  "this filesystem has no flock, which keeps two jobs apart: mount Lustre with -o "
                  "flock (localflock if no other node uses the directory), NFS with its lock "
                  "service or -o local_lock=flock, or choose another directory");
  error.value().kind = ErrorKind::kUnsupported;
  return error;
}

tl::unexpected<Error> held_by_this_process(const std::string& path) {
  return make_error(ErrorKind::kBusy, "lock", path,
                    "this process has the lock already: give that DirectoryLock to every store of "
                    "the directory (TileStoreOptions::locks), or let all of them share one "
                    "(DirectoryLock::share, TileStoreOptions::share_locks)");
}

// Takes the flock on the file that has the lock's name now. A holder unlinks the file when it lets
// go, so the one opened here may have lost its name before the flock came: then again.
Result<Descriptor> lock_file(int directory, const std::string& path) {
  for (;;) {
    Descriptor file(::openat(directory, DirectoryLock::kFileName,
                             O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
    if (file.get() < 0 && errno == ELOOP) return not_ours(path);
    if (file.get() < 0) return errno_error("lock", path, errno);
    struct stat opened {};
    if (::fstat(file.get(), &opened) != 0) return errno_error("lock", path, errno);
    if (!S_ISREG(opened.st_mode)) return not_ours(path);
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
      const int reason = errno;
      if (no_flock(reason)) {
        // Ours if it is empty: without flock nobody holds it.
        if (opened.st_size == 0) ::unlinkat(directory, DirectoryLock::kFileName, 0);
        return no_locks(path, reason);
      }
      if (reason == EINTR) continue;
      if (reason != EWOULDBLOCK) return errno_error("lock", path, reason);
      const std::string text = read_all(file.get(), path).value_or("");
      return make_error(ErrorKind::kBusy, "lock", path,
                        "the directory is in use by " + holder(text) +
                            "; wait for it or choose another directory");
    }
    struct stat named {};
    if (::fstatat(directory, DirectoryLock::kFileName, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
        opened.st_ino == named.st_ino && opened.st_dev == named.st_dev) {
      return file;
    }
  }
}

}  // namespace

struct DirectoryLock::State {
  const aio::OwnerProcess owner;
  std::shared_ptr<LockedDirectory> entry;  // of the locks in this process
  std::filesystem::path directory;
  std::string path;  // of the lock file
  Descriptor directory_fd;
  Descriptor file;
  std::size_t leftovers_removed = 0;
  Mutex mutex;
  std::set<std::string> names SPILLWAY_GUARDED_BY(mutex);
  std::set<std::string> stores SPILLWAY_GUARDED_BY(mutex);
  off_t end SPILLWAY_GUARDED_BY(mutex) = 0;  // of the journal

  // Only regular files: a name on the list that has become something else is not ours.
  Result<bool> remove_file(const std::string& name) {
    struct stat status {};
    if (::fstatat(directory_fd.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(status.st_mode)) {
      return false;
    }
    if (::unlinkat(directory_fd.get(), name.c_str(), 0) == 0) return true;
    return errno_error("remove a killed job's file", (directory / name).string(), errno);
  }

  Result<void> append(const std::string& lines) SPILLWAY_REQUIRES(mutex) {
    if (auto written = write_all(file.get(), path, lines, end); !written) return written;
    end += static_cast<off_t>(lines.size());
    return {};
  }

  // Empties the journal of whoever was here before and signs it.
  Result<void> sign() SPILLWAY_REQUIRES(mutex) {
    if (::ftruncate(file.get(), 0) != 0) return errno_error("truncate", path, errno);
    if (auto written = append(std::string(kMagic) + std::to_string(::getpid()) + "\n"); !written) {
      return written;
    }
    if (::fdatasync(file.get()) != 0 || ::fsync(directory_fd.get()) != 0) {
      return errno_error("sync", path, errno);
    }
    return {};
  }
};

Result<std::shared_ptr<DirectoryLock>> DirectoryLock::acquire(
    const std::filesystem::path& directory) {
  return take(directory, /*shareable=*/false);
}

Result<std::shared_ptr<DirectoryLock>> DirectoryLock::share(
    const std::filesystem::path& directory) {
  return take(directory, /*shareable=*/true);
}

Result<std::shared_ptr<DirectoryLock>> DirectoryLock::take(const std::filesystem::path& directory,
                                                           bool shareable) {
  auto state = std::make_unique<State>();
  state->directory = aio::path_from_root(directory);
  state->path = (state->directory / kFileName).string();
  state->directory_fd = Descriptor(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat status {};
  if (state->directory_fd.get() < 0 || ::fstat(state->directory_fd.get(), &status) != 0) {
    return errno_error("lock", directory.string(), errno, "an existing directory is needed");
  }
  state->entry = locked_directory(status);
  const std::shared_ptr<LockedDirectory> kept = state->entry;  // outlives the guard, if it fails
  LockedDirectory& entry = *kept;
  MutexLock guard(entry.mutex);
  while (shareable && entry.held && entry.shareable) {
    if (auto shared = entry.shared.lock()) return shared;
    entry.released.wait(guard);  // it is about to let go
  }
  if (entry.held) return held_by_this_process(state->path);
  auto lock = make(std::move(state));
  if (!lock) return lock;
  entry.held = true;
  entry.shareable = shareable;
  if (shareable) entry.shared = *lock;
  return lock;
}

Result<std::shared_ptr<DirectoryLock>> DirectoryLock::make(std::unique_ptr<State> state) {
  auto file = lock_file(state->directory_fd.get(), state->path);
  if (!file) return tl::unexpected(std::move(file.error()));
  state->file = std::move(*file);

  const auto journal = read_all(state->file.get(), state->path);
  if (!journal) return tl::unexpected(journal.error());
  if (!journal->empty() && !journal->starts_with(kMagic)) return not_ours(state->path);
  const std::set<std::string> listed = listed_files(*journal);
  if (auto ours = check_owner(state->file.get(), state->path, listed.size()); !ours) {
    return tl::unexpected(std::move(ours.error()));
  }
  for (const std::string& name : listed) {
    const auto removed = state->remove_file(name);
    if (!removed) return tl::unexpected(removed.error());
    state->leftovers_removed += *removed ? 1 : 0;
  }
  {
    const MutexLock guard(state->mutex);
    if (auto signed_now = state->sign(); !signed_now) {
      return tl::unexpected(std::move(signed_now.error()));
    }
  }
  return std::shared_ptr<DirectoryLock>(new DirectoryLock(std::move(state)));
}

DirectoryLock::DirectoryLock(std::unique_ptr<State> state) : state_(std::move(state)) {}

DirectoryLock::~DirectoryLock() {
  // The files and the lock are the parent's; closing a copy of the descriptor does not unlock.
  if (!state_->owner.is_here()) return;
  // What cannot be removed now stays on the list, and the list stays with it for the next job.
  bool all_removed = true;
  for (const std::string& name : state_->names) {
    all_removed = state_->remove_file(name).has_value() && all_removed;
  }
  if (all_removed) ::unlinkat(state_->directory_fd.get(), kFileName, 0);
  // Not by closing alone: a forked child may have a copy of the descriptor.
  ::flock(state_->file.get(), LOCK_UN);
  state_->file = Descriptor();
  LockedDirectory& entry = *state_->entry;  // which outlives the guard
  const MutexLock guard(entry.mutex);
  entry.held = false;
  entry.released.notify_all();
}

const std::filesystem::path& DirectoryLock::directory() const noexcept { return state_->directory; }

Result<void> DirectoryLock::will_create(std::span<const std::string> file_names) {
  for (const std::string& name : file_names) {
    SPILLWAY_CHECK(name_of_ours(name), "a file is listed by a name of this library's");
  }
  if (!state_->owner.is_here()) return tl::unexpected(state_->owner.error("create", state_->path));
  const MutexLock guard(state_->mutex);
  std::string lines;
  for (const std::string& name : file_names) {
    struct stat status {};
    if (state_->names.contains(name)) {
      return make_error(ErrorKind::kBusy, "create", (state_->directory / name).string(),
                        "another store of this process has a file of this name");
    }
    if (::fstatat(state_->directory_fd.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) {
      return make_error(ErrorKind::kBusy, "create", (state_->directory / name).string(),
                        "a file of this name exists already; it is left alone");
    }
    lines += "+" + name + "\n";
  }
  if (auto appended = state_->append(lines); !appended) return appended;
  if (::fdatasync(state_->file.get()) != 0) return errno_error("sync", state_->path, errno);
  state_->names.insert(file_names.begin(), file_names.end());
  return {};
}

void DirectoryLock::removed(std::span<const std::string> file_names) noexcept {
  if (!state_->owner.is_here()) return;
  const MutexLock guard(state_->mutex);
  std::string lines;
  for (const std::string& name : file_names) {
    if (state_->names.erase(name) == 1) lines += "-" + name + "\n";
  }
  // Not synced, and a failure is harmless: the next job then looks for files that are not there.
  (void)state_->append(lines);
}

Result<void> DirectoryLock::add_store(const std::string& name) {
  if (!state_->owner.is_here()) return tl::unexpected(state_->owner.error("lock", state_->path));
  const MutexLock guard(state_->mutex);
  if (state_->stores.insert(name).second) return {};
  return make_error(ErrorKind::kBusy, "create a tile store", state_->directory.string(),
                    "another store of this process has the name '" + name +
                        "' in this directory: give each a `name` of its own");
}

void DirectoryLock::remove_store(const std::string& name) noexcept {
  if (!state_->owner.is_here()) return;
  const MutexLock guard(state_->mutex);
  state_->stores.erase(name);
}

std::size_t DirectoryLock::leftovers_removed() const noexcept { return state_->leftovers_removed; }

}  // namespace spillway::swapper
