#include "trainer/files/placed_file.h"

#include <fcntl.h>
#include <spillway/aio/signals.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace spillway::trainer {

PlacedFile::PlacedFile(PlacedFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      write_back_(other.write_back_) {}

PlacedFile::~PlacedFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<PlacedFile> PlacedFile::create(const std::filesystem::path& path, std::uint64_t size_bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd < 0) return errno_error("create", path.string(), errno);
  PlacedFile file(fd, path.string());
  const aio::FileSizeLimit limit;
  if (::fallocate(fd, 0, 0, static_cast<off_t>(size_bytes)) != 0) {
    // A filesystem that cannot: its space is taken by the writes.
    if (errno != EOPNOTSUPP) return errno_error("fallocate", path.string(), errno);
    if (::ftruncate(fd, static_cast<off_t>(size_bytes)) != 0) {
      return errno_error("ftruncate", path.string(), errno);
    }
  }
  return file;
}

Result<void> PlacedFile::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  const aio::FileSizeLimit limit;
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      auto failed = errno_error("write", path_, written == 0 ? EIO : errno);
      failed.value().offset = offset;
      failed.value().wanted = bytes.size();
      return failed;
    }
    offset += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Result<void> PlacedFile::sync_and_close() {
  if (::fsync(fd_) != 0) return errno_error("fsync", path_, errno);
  ::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
  if (::close(std::exchange(fd_, -1)) != 0) return errno_error("close", path_, errno);
  return {};
}

}  // namespace spillway::trainer
