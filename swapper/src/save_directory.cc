#include "save_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#include <spillway/aio/signals.h>
#include <spillway/pinned_pool/limits.h>
#include <spillway/swapper/saved_tiles.h>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string_view>

namespace spillway::swapper {
namespace {

constexpr const char* kWhat = "save tiles";
constexpr const char* kLockName = "spillway-save.lock";
constexpr std::uint64_t kExfatMagic = 0x2011bab0;  // in linux/magic.h since 5.7 only

bool is_made_by_a_save(std::string_view name) {
  constexpr std::string_view kSegment = "segment-";
  if (name == kSavedManifestName || name == kLockName) return true;
  return name.starts_with(kSegment) && name.size() > kSegment.size() &&
         name.find_first_not_of("0123456789", kSegment.size()) == std::string_view::npos;
}

}  // namespace

Result<SaveDirectory> SaveDirectory::create(const std::filesystem::path& path) {
  std::filesystem::path named = path;
  while (!named.has_filename() && named.has_relative_path()) named = named.parent_path();
  SaveDirectory made(named);
  made.name_ = named.filename().string();
  if (made.name_.empty() || made.name_ == "." || made.name_ == "..") {
    return make_error(ErrorKind::kInvalid, kWhat, path.string(),
                      "the path needs a name at its end: that of the directory to make");
  }
  made.hidden_name_ = "." + made.name_ + ".spillway-save";
  const std::filesystem::path above = named.has_parent_path() ? named.parent_path() : ".";
  made.parent_ = Descriptor(::open(above.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (made.parent_.get() < 0) {
    return errno_error(kWhat, above.string(), errno, "an existing directory is needed");
  }
  constexpr int kTries = 100;  // others come and go
  for (int i = 0; i < kTries; ++i) {
    auto opened = made.open();
    if (!opened) {
      made.directory_ = Descriptor();  // it is not ours to remove
      return tl::unexpected(std::move(opened.error()));
    }
    if (*opened) return made;
  }
  made.directory_ = Descriptor();
  return make_error(ErrorKind::kBusy, kWhat, named.string(), "other processes save to it");
}

// False if another process was faster: then again.
Result<bool> SaveDirectory::open() {
  struct stat status {};
  if (::fstatat(parent_.get(), name_.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) {
    return make_error(ErrorKind::kBusy, kWhat, path_.string(),
                      "something of this name exists; a save makes a new directory");
  }
  const std::string hidden = (path_.parent_path() / hidden_name_).string();
  if (::mkdirat(parent_.get(), hidden_name_.c_str(), 0700) != 0 && errno != EEXIST) {
    return errno_error(kWhat, hidden, errno);
  }
  directory_ = Descriptor(::openat(parent_.get(), hidden_name_.c_str(),
                                   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (directory_.get() < 0) {
    if (errno == ENOENT) return false;
    return errno_error(kWhat, hidden, errno, "a save needs this name beside its own");
  }
  if (::fstat(directory_.get(), &status) != 0) return errno_error(kWhat, hidden, errno);
  if (status.st_uid != ::geteuid()) {
    return make_error(ErrorKind::kBusy, kWhat, hidden, "belongs to another user");
  }
  device_ = status.st_dev;
  // Looked at first, so that not even a lock is put beside files of others.
  if (auto only_ours = remove_leftovers(false); !only_ours) {
    return tl::unexpected(std::move(only_ours.error()));
  }
  if (auto locked = lock(); !locked) return tl::unexpected(std::move(locked.error()));
  if (lock_.get() < 0) return false;
  const auto named = is_still_named();
  if (!named || !*named) return named;
  if (auto removed = remove_leftovers(true); !removed) {
    return tl::unexpected(std::move(removed.error()));
  }
  if (::fchmod(directory_.get(), 0700) != 0) return errno_error(kWhat, hidden, errno);
  return true;
}

// Leaves lock_ empty if the directory was removed meanwhile.
Result<void> SaveDirectory::lock() {
  lock_ = Descriptor(::openat(directory_.get(), kLockName,
                              O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  if (lock_.get() < 0) {
    if (errno == ENOENT) return {};
    return errno_error(kWhat, file_path(kLockName), errno);
  }
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) == 0) return {};
  if (errno == EWOULDBLOCK) {
    return make_error(ErrorKind::kBusy, kWhat, path_.string(),
                      "another process is saving to it; wait for it or choose another name");
  }
  return errno_error(kWhat, file_path(kLockName), errno,
                     "a save needs flock there; mount the filesystem with it, or choose another");
}

// Whoever held the lock before may have removed or renamed what was opened.
Result<bool> SaveDirectory::is_still_named() const {
  const auto same = [](int fd, int directory, const char* name) {
    struct stat opened {};
    struct stat named {};
    return ::fstat(fd, &opened) == 0 &&
           ::fstatat(directory, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
  };
  return same(directory_.get(), parent_.get(), hidden_name_.c_str()) &&
         same(lock_.get(), directory_.get(), kLockName);
}

// Checks that only files of a save are there; if `remove`, unlinks them, except the lock.
Result<void> SaveDirectory::remove_leftovers(bool remove) const {
  const int fd = ::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(fd < 0 ? nullptr : ::fdopendir(fd), ::closedir);
  if (entries == nullptr) return errno_error(kWhat, path_.string(), errno);
  while (const dirent* entry = ::readdir(entries.get())) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    struct stat status {};
    if (::fstatat(directory_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;
      return errno_error(kWhat, file_path(name), errno);
    }
    if (!is_made_by_a_save(name) || !S_ISREG(status.st_mode)) {
      return make_error(ErrorKind::kInvalid, kWhat, file_path(name),
                        "a foreign file lies where a killed save left its own; nothing there is "
                        "removed: move it away");
    }
    if (!remove || name == kLockName) continue;
    if (::unlinkat(directory_.get(), name.c_str(), 0) != 0) {
      return errno_error(kWhat, file_path(name), errno);
    }
  }
  return {};
}

SaveDirectory::~SaveDirectory() {
  if (directory_.get() < 0) return;
  (void)remove_leftovers(true);
  ::unlinkat(directory_.get(), kLockName, 0);
  ::unlinkat(parent_.get(), hidden_name_.c_str(), AT_REMOVEDIR);
}

std::string SaveDirectory::file_path(const std::string& name) const {
  return (path_.parent_path() / hidden_name_ / name).string();
}

Result<void> SaveDirectory::check_space(std::uint64_t bytes) const {
  struct statvfs filesystem {};
  if (::fstatvfs(directory_.get(), &filesystem) != 0) {
    return errno_error(kWhat, path_.string(), errno);
  }
  const std::uint64_t free = std::uint64_t{filesystem.f_bavail} * filesystem.f_frsize;
  if (bytes <= free) return {};
  return make_error(ErrorKind::kNoSpace, kWhat, path_.string(),
                    "tiles that cannot be linked there take " + pinned_pool::format_bytes(bytes) +
                        ", free are " + pinned_pool::format_bytes(free) + ": " +
                        pinned_pool::format_bytes(bytes - free) + " short");
}

bool SaveDirectory::has_links() const noexcept {
  struct statfs filesystem {};
  if (::fstatfs(directory_.get(), &filesystem) != 0) return true;
  const auto magic = static_cast<std::uint64_t>(filesystem.f_type);
  return magic != MSDOS_SUPER_MAGIC && magic != kExfatMagic;
}

Result<SaveDirectory::NewFile> SaveDirectory::create_file(const std::string& name,
                                                          std::uint64_t size_bytes) {
  NewFile file(::openat(directory_.get(), name.c_str(),
                        O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600),
               file_path(name));
  if (file.file_.get() < 0) return errno_error(kWhat, file.path_, errno);
  const aio::FileSizeLimit limit;
  // A filesystem that cannot: its space is taken by the writes.
  if (size_bytes > 0 && ::fallocate(file.file_.get(), 0, 0, static_cast<off_t>(size_bytes)) != 0 &&
      errno != EOPNOTSUPP) {
    return errno_error(kWhat, file.path_, errno,
                       pinned_pool::format_bytes(size_bytes) + " are needed");
  }
  return file;
}

Result<void> SaveDirectory::NewFile::write(std::span<const std::byte> bytes, std::uint64_t offset) {
  const aio::FileSizeLimit limit;
  while (!bytes.empty()) {
    const ssize_t written =
        ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      auto failed = errno_error(kWhat, path_, written == 0 ? EIO : errno);
      failed.value().offset = offset;
      failed.value().wanted = bytes.size();
      return failed;
    }
    offset += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Result<void> SaveDirectory::NewFile::sync() {
  // Never repeated: after a failure the kernel may call lost pages clean.
  if (::fsync(file_.get()) != 0) return errno_error(kWhat, path_, errno, "fsync");
  return {};
}

Result<void> SaveDirectory::finish() {
  if (::fsync(directory_.get()) != 0) return errno_error(kWhat, path_.string(), errno, "fsync");
  if (::renameat2(parent_.get(), hidden_name_.c_str(), parent_.get(), name_.c_str(),
                  RENAME_NOREPLACE) != 0 &&
      // A filesystem without RENAME_NOREPLACE. A directory replaces none but an empty one.
      (errno != EINVAL ||
       ::renameat(parent_.get(), hidden_name_.c_str(), parent_.get(), name_.c_str()) != 0)) {
    if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR) {
      return errno_error(kWhat, path_.string(), errno, "rename");
    }
    return make_error(ErrorKind::kBusy, kWhat, path_.string(),
                      "something of this name was made meanwhile");
  }
  if (::fsync(parent_.get()) != 0) {
    auto failed = errno_error(kWhat, path_.string(), errno, "fsync of the directory above");
    // It may not be durable: it loses its name again, and the destructor removes it.
    (void)::renameat(parent_.get(), name_.c_str(), parent_.get(), hidden_name_.c_str());
    return failed;
  }
  // A kill before this leaves the lock's file, which nobody minds.
  ::unlinkat(directory_.get(), kLockName, 0);
  directory_ = Descriptor();
  return {};
}

}  // namespace spillway::swapper
