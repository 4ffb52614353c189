#include <spillway/aio/check.h>
#include <spillway/aio/file.h>
#include <spillway/aio/signals.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "dio_alignment.h"

namespace spillway::aio {
namespace {

std::uint64_t next_id() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

// Allocates every block of the file, so that no later write can meet ENOSPC. Returns an errno.
int preallocate(int fd, std::uint64_t size_bytes) {
  if (size_bytes == 0) return 0;
  const FileSizeLimit limit;
  int rc = 0;
  do {
    rc = ::fallocate(fd, 0, 0, static_cast<off_t>(size_bytes)) == 0 ? 0 : errno;
  } while (rc == EINTR);
  if (rc != EOPNOTSUPP && rc != ENOSYS) return rc;
  // A filesystem without fallocate (NFSv3, some FUSE): a sparse file would promise space that is
  // not there, so the zeros are really written.
  constexpr std::size_t kChunk = 1 << 20;
  auto zeros = std::make_unique<std::byte[]>(kChunk);
  for (std::uint64_t at = 0; at < size_bytes;) {
    std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, size_bytes - at));
    ssize_t written = ::pwrite(fd, zeros.get(), n, static_cast<off_t>(at));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return written < 0 ? errno : EIO;
    at += static_cast<std::uint64_t>(written);
  }
  return ::fdatasync(fd) == 0 ? 0 : errno;
}

// The kernel writes and invalidates its cache by pages: direct I/O to parts of one, at the same
// time, would lose bytes.
std::uint32_t page_bytes() {
  static const auto bytes = static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

// Of another process or an earlier one of the same number, a name may be taken: open says so.
std::string name_for_a_new_file() {
  static std::atomic<unsigned> made{0};
  return ".spillway-new-" + std::to_string(::getpid()) + "-" + std::to_string(made++);
}

// What is at `path`, if anything is.
Result<std::optional<struct stat>> file_to_replace(const std::filesystem::path& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return std::optional<struct stat>();
    return errno_error("create", path.string(), errno);
  }
  if (S_ISREG(status.st_mode)) return std::optional(status);
  const char* what = S_ISLNK(status.st_mode)   ? "a symbolic link"
                     : S_ISDIR(status.st_mode) ? "a directory"
                                               : "a device, a FIFO or a socket";
  return make_error(ErrorKind::kInvalid, "create", path.string(),
                    std::string("it is ") + what + ": only a regular file is overwritten");
}

// Gives the new file the permissions, and where that is allowed the owner, of the old one.
void inherit(int fd, const struct stat& old) {
  [[maybe_unused]] const int owner = ::fchown(fd, old.st_uid, old.st_gid);
  [[maybe_unused]] const int mode = ::fchmod(fd, old.st_mode & 0777);
}

bool same_file(int fd, int other) {
  struct stat one {};
  struct stat two {};
  return ::fstat(fd, &one) == 0 && ::fstat(other, &two) == 0 && one.st_dev == two.st_dev &&
         one.st_ino == two.st_ino;
}

}  // namespace

std::filesystem::path path_from_root(const std::filesystem::path& path) {
  std::error_code failed;
  std::filesystem::path absolute = std::filesystem::absolute(path, failed);
  return failed ? path : absolute;
}

File::Open::~Open() {
  if (page_cache_fd >= 0) ::close(page_cache_fd);
  if (fd >= 0) ::close(fd);
}

// By way of /proc the file itself is opened, wherever its name points by now. Without /proc the
// name must still be the same file's.
Result<int> File::Open::page_cache() {
  const MutexLock lock(mutex);
  if (page_cache_fd >= 0) return page_cache_fd;
  const std::string self = "/proc/self/fd/" + std::to_string(fd);
  int opened = ::open(self.c_str(), O_WRONLY | O_CLOEXEC);
  if (opened < 0 && errno == ENOENT) {
    opened = ::open(from_root.c_str(), O_WRONLY | O_CLOEXEC);
    if (opened >= 0 && !same_file(fd, opened)) {
      ::close(opened);
      return make_error(ErrorKind::kIo, "write", path,
                        "the name is another file's by now, and /proc is not mounted: the pages "
                        "that are written in part cannot be reached");
    }
  }
  if (opened < 0) {
    return errno_error("write", path, errno,
                       "a second descriptor, for pages that are written in part");
  }
  page_cache_fd = opened;
  return opened;
}

// errno says why fd() is -1.
File::File(const std::string& open_at, std::string path, bool writable, int flags,
           std::uint32_t permissions)
    : open_(std::make_shared<Open>()) {
  open_->path = std::move(path);
  open_->from_root = path_from_root(open_->path).string();
  open_->writable = writable;
  open_->id = next_id();
  open_->fd = ::open(open_at.c_str(), flags | O_CLOEXEC, static_cast<mode_t>(permissions));
}

// O_DIRECT is set after opening: open(O_CREAT | O_DIRECT) leaves an empty file behind where the
// filesystem has no direct I/O, and preallocation by writing needs no alignment without it.
Result<void> File::make_direct(Direct policy) {
  if (policy == Direct::kOff) {
    open_->why_not_direct = "not asked for";
    return {};
  }
  int flags = ::fcntl(fd(), F_GETFL);
  DioAlignment alignment = dio_alignment(fd());
  constexpr std::uint32_t kLargestAlignment = 64 << 10;  // far above any device of today
  if (!alignment.possible) {
    open_->why_not_direct = "the filesystem says that it has no direct I/O for this file";
  } else if (std::max(alignment.memory, alignment.offset) > kLargestAlignment) {
    open_->why_not_direct = "the device asks for blocks of more than 64 KiB";
  } else if (flags < 0 || ::fcntl(fd(), F_SETFL, flags | O_DIRECT) != 0) {
    open_->why_not_direct = "the filesystem refuses O_DIRECT";
  } else {
    open_->direct = true;
    open_->memory_alignment = alignment.memory;
    open_->offset_alignment = std::max(alignment.offset, page_bytes());
    return {};
  }
  if (policy == Direct::kAuto) return {};
  return make_error(ErrorKind::kUnsupported, "open", path(),
                    "direct I/O is required, but " + why_not_direct());
}

// A new file that is to replace another lies under a name of its own until it has all its room.
Result<File> File::create(const std::filesystem::path& path, const CreateOptions& options) {
  constexpr std::uint64_t kLargest = std::numeric_limits<off_t>::max();
  if (options.size_bytes > kLargest) {
    return make_error(ErrorKind::kInvalid, "create", path.string(),
                      "size_bytes is " + std::to_string(options.size_bytes) +
                          ", a file has at most " + std::to_string(kLargest));
  }
  std::string made_at = path.string();
  std::optional<struct stat> replaced;
  if (options.overwrite) {
    auto found = file_to_replace(path);
    if (!found) return tl::unexpected(std::move(found.error()));
    replaced = *found;
    made_at = (path.parent_path() / name_for_a_new_file()).string();
  }
  File file(made_at, path.string(), true, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW,
            options.permissions);
  if (file.fd() < 0) {
    return errno_error("create", file.path(), errno,
                       options.overwrite ? "a new file beside it, to replace it" : "");
  }
  const auto fill = [&]() -> Result<void> {
    if (const int rc = preallocate(file.fd(), options.size_bytes); rc != 0) {
      return errno_error("preallocate", file.path(), rc,
                         std::to_string(options.size_bytes) + " bytes were asked for");
    }
    if (auto direct = file.make_direct(options.direct); !direct) return direct;
    if (replaced) inherit(file.fd(), *replaced);
    if (options.overwrite && ::rename(made_at.c_str(), path.c_str()) != 0) {
      return errno_error("create", file.path(), errno);
    }
    return {};
  };
  if (auto filled = fill(); !filled) {
    ::unlink(made_at.c_str());
    return tl::unexpected(std::move(filled.error()));
  }
  return file;
}

Result<File> File::open(const std::filesystem::path& path, const OpenOptions& options) {
  return open_at(path.string(), path.string(), options);
}

Result<File> File::reopen(const OpenOptions& options) const {
  SPILLWAY_CHECK(fd() >= 0, "the File was moved from");
  auto opened = open_at("/proc/self/fd/" + std::to_string(fd()), path(), options);
  if (!opened && opened.error().errno_value == ENOENT) {  // /proc is not mounted
    opened = open_at(open_->from_root, path(), options);
    if (opened && !same_file(fd(), opened->fd())) {
      return make_error(ErrorKind::kIo, "open", path(),
                        "the name is another file's by now, and /proc is not mounted");
    }
  }
  if (opened) opened->open_->from_root = open_->from_root;
  return opened;
}

Result<File> File::open_at(const std::string& open_at, std::string path,
                           const OpenOptions& options) {
  // Not to wait for whoever opens the other end of a FIFO.
  const int flags = (options.writable ? O_RDWR : O_RDONLY) | O_NONBLOCK;
  File file(open_at, std::move(path), options.writable, flags);
  if (file.fd() < 0) return errno_error("open", file.path(), errno);
  struct stat status {};
  if (::fstat(file.fd(), &status) != 0) return errno_error("open", file.path(), errno);
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    return make_error(ErrorKind::kInvalid, "open", file.path(),
                      "neither a regular file nor a block device");
  }
  if (::fcntl(file.fd(), F_SETFL, flags & ~O_NONBLOCK) != 0) {
    return errno_error("open", file.path(), errno);
  }
  if (auto direct = file.make_direct(options.direct); !direct) {
    return tl::unexpected(std::move(direct.error()));
  }
  return file;
}

Result<std::uint64_t> File::size_bytes() const {
  SPILLWAY_CHECK(fd() >= 0, "the File was moved from");
  struct stat status {};
  if (::fstat(fd(), &status) != 0) return errno_error("stat", path(), errno);
  if (!S_ISBLK(status.st_mode)) return static_cast<std::uint64_t>(status.st_size);
  off_t end = ::lseek(fd(), 0, SEEK_END);  // st_size of a block device is 0
  if (end < 0) return errno_error("stat", path(), errno);
  return static_cast<std::uint64_t>(end);
}

Result<void> File::sync() {
  SPILLWAY_CHECK(fd() >= 0, "the File was moved from");
  if (::fdatasync(fd()) != 0) return errno_error("fdatasync", path(), errno);
  return {};
}

Result<void> File::remove() {
  SPILLWAY_CHECK(fd() >= 0, "the File was moved from");
  if (::unlink(open_->from_root.c_str()) != 0) return errno_error("unlink", path(), errno);
  return {};
}

Result<void> read_exactly(int fd, std::uint64_t offset, std::span<std::byte> to,
                          const std::string& path) {
  for (std::size_t got = 0; got < to.size();) {
    const ssize_t count =
        ::pread(fd, to.data() + got, to.size() - got, static_cast<off_t>(offset + got));
    if (count < 0 && errno == EINTR) continue;
    if (count > 0) {
      got += static_cast<std::size_t>(count);
      continue;
    }
    auto failed =
        count < 0 ? errno_error("read", path, errno)
                  : make_error(ErrorKind::kShortTransfer, "read", path, "the file ends too early");
    failed.value().offset = offset;
    failed.value().wanted = to.size();
    failed.value().got = got;
    return failed;
  }
  return {};
}

}  // namespace spillway::aio
