#include <spillway/aio/check.h>
#include <spillway/aio/file.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <memory>
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

}  // namespace

File::Open::~Open() {
  if (fd >= 0) ::close(fd);
}

// errno says why fd() is -1.
File::File(std::string path, bool writable, int flags) : open_(std::make_shared<Open>()) {
  open_->path = std::move(path);
  open_->writable = writable;
  open_->id = next_id();
  open_->fd = ::open(open_->path.c_str(), flags | O_CLOEXEC, 0644);
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
    open_->offset_alignment = alignment.offset;
    return {};
  }
  if (policy == Direct::kAuto) return {};
  return make_error(ErrorKind::kUnsupported, "open", path(),
                    "direct I/O is required, but " + why_not_direct());
}

Result<File> File::create(const std::filesystem::path& path, const CreateOptions& options) {
  File file(path.string(), true, O_RDWR | O_CREAT | (options.overwrite ? O_TRUNC : O_EXCL));
  if (file.fd() < 0) return errno_error("create", file.path(), errno);
  if (int rc = preallocate(file.fd(), options.size_bytes); rc != 0) {
    ::unlink(path.c_str());
    return errno_error("preallocate", file.path(), rc,
                       std::to_string(options.size_bytes) + " bytes were asked for");
  }
  if (auto direct = file.make_direct(options.direct); !direct) {
    ::unlink(path.c_str());
    return tl::unexpected(std::move(direct.error()));
  }
  return file;
}

Result<File> File::open(const std::filesystem::path& path, const OpenOptions& options) {
  File file(path.string(), options.writable, options.writable ? O_RDWR : O_RDONLY);
  if (file.fd() < 0) return errno_error("open", file.path(), errno);
  struct stat status {};
  if (::fstat(file.fd(), &status) != 0) return errno_error("open", file.path(), errno);
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    return make_error(ErrorKind::kInvalid, "open", file.path(),
                      "neither a regular file nor a block device");
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
  if (::unlink(path().c_str()) != 0) return errno_error("unlink", path(), errno);
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
