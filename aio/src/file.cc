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

// O_DIRECT is set after opening: open(O_CREAT | O_DIRECT) leaves an empty file behind where the
// filesystem has no direct I/O, and preallocation by writing needs no alignment without it.
Result<void> File::make_direct(Direct wish) {
  if (wish == Direct::kOff) {
    why_not_direct_ = "not asked for";
    return {};
  }
  int flags = ::fcntl(fd_, F_GETFL);
  DioAlignment alignment = dio_alignment(fd_);
  constexpr std::uint32_t kLargestAlignment = 64 << 10;  // far above any device of today
  if (!alignment.possible) {
    why_not_direct_ = "the filesystem says that it has no direct I/O for this file";
  } else if (std::max(alignment.memory, alignment.offset) > kLargestAlignment) {
    why_not_direct_ = "the device asks for blocks of more than 64 KiB";
  } else if (flags < 0 || ::fcntl(fd_, F_SETFL, flags | O_DIRECT) != 0) {
    why_not_direct_ = "the filesystem refuses O_DIRECT";
  } else {
    direct_ = true;
    memory_alignment_ = alignment.memory;
    offset_alignment_ = alignment.offset;
    return {};
  }
  if (wish == Direct::kAuto) return {};
  return make_error(ErrorKind::kUnsupported, "open", path_,
                    "direct I/O is required, but " + why_not_direct_);
}

Result<File> File::create(const std::filesystem::path& path, const CreateOptions& options) {
  File file;
  file.path_ = path.string();
  file.writable_ = true;
  int flags = O_RDWR | O_CREAT | O_CLOEXEC | (options.overwrite ? O_TRUNC : O_EXCL);
  file.fd_ = ::open(path.c_str(), flags, 0644);
  if (file.fd_ < 0) return errno_error("create", file.path_, errno);
  file.id_ = next_id();
  if (int rc = preallocate(file.fd_, options.size_bytes); rc != 0) {
    ::unlink(path.c_str());
    return errno_error("preallocate", file.path_, rc,
                       std::to_string(options.size_bytes) + " bytes were asked for");
  }
  if (auto direct = file.make_direct(options.direct); !direct) {
    ::unlink(path.c_str());
    return tl::unexpected(std::move(direct.error()));
  }
  return file;
}

Result<File> File::open(const std::filesystem::path& path, const OpenOptions& options) {
  File file;
  file.path_ = path.string();
  file.writable_ = options.writable;
  file.fd_ = ::open(path.c_str(), (options.writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (file.fd_ < 0) return errno_error("open", file.path_, errno);
  file.id_ = next_id();
  struct stat status {};
  if (::fstat(file.fd_, &status) != 0) return errno_error("open", file.path_, errno);
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    return make_error(ErrorKind::kInvalid, "open", file.path_,
                      "neither a regular file nor a block device");
  }
  if (auto direct = file.make_direct(options.direct); !direct) {
    return tl::unexpected(std::move(direct.error()));
  }
  return file;
}

File::File(File&& other) noexcept { *this = std::move(other); }

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(id_, other.id_);
  std::swap(writable_, other.writable_);
  std::swap(direct_, other.direct_);
  std::swap(memory_alignment_, other.memory_alignment_);
  std::swap(offset_alignment_, other.offset_alignment_);
  path_.swap(other.path_);
  why_not_direct_.swap(other.why_not_direct_);
  return *this;
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

Result<std::uint64_t> File::size_bytes() const {
  SPILLWAY_CHECK(fd_ >= 0, "the File was moved from");
  struct stat status {};
  if (::fstat(fd_, &status) != 0) return errno_error("stat", path_, errno);
  if (!S_ISBLK(status.st_mode)) return static_cast<std::uint64_t>(status.st_size);
  off_t end = ::lseek(fd_, 0, SEEK_END);  // st_size of a block device is 0
  if (end < 0) return errno_error("stat", path_, errno);
  return static_cast<std::uint64_t>(end);
}

Result<void> File::sync() {
  SPILLWAY_CHECK(fd_ >= 0, "the File was moved from");
  if (::fdatasync(fd_) != 0) return errno_error("fdatasync", path_, errno);
  return {};
}

Result<void> File::remove() {
  if (::unlink(path_.c_str()) != 0) return errno_error("unlink", path_, errno);
  return {};
}

}  // namespace spillway::aio
