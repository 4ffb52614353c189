#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <spillway/aio/check.h>
#include <spillway/swapper/sealed_tile.h>
#include <algorithm>
#include <array>
#include <cerrno>

namespace spillway::swapper {

Result<void> SealedSegment::sync() {
  if (!owner_.is_here()) return tl::unexpected(owner_.error("sync", path()));
  const MutexLock guard(mutex_);
  if (!synced_) synced_ = file_.sync();
  return *synced_;
}

Result<void> SealedSegment::read(std::uint64_t offset, std::span<std::byte> to) const {
  SPILLWAY_CHECK(offset % kPlaneAlignment == 0 && to.size() % kPlaneAlignment == 0,
                 "whole pages of a segment are read");
  return aio::read_exactly(file_.fd(), offset, to, path());
}

// By way of /proc the open file itself is linked; AT_EMPTY_PATH would do the same for those who
// have CAP_DAC_READ_SEARCH only (linkat(2)). Without /proc the path must still be its name.
Result<void> SealedSegment::link(int directory_fd, const std::string& name) const {
  const std::string self = "/proc/self/fd/" + std::to_string(fd());
  if (::linkat(AT_FDCWD, self.c_str(), directory_fd, name.c_str(), AT_SYMLINK_FOLLOW) == 0) {
    return {};
  }
  int error = errno;
  if (error == ENOENT && ::access("/proc/self/fd", F_OK) != 0) {
    struct stat mine {};
    struct stat linked {};
    if (::linkat(AT_FDCWD, path().c_str(), directory_fd, name.c_str(), 0) != 0) {
      error = errno;
    } else if (::fstat(fd(), &mine) == 0 &&
               ::fstatat(directory_fd, name.c_str(), &linked, AT_SYMLINK_NOFOLLOW) == 0 &&
               mine.st_dev == linked.st_dev && mine.st_ino == linked.st_ino) {
      return {};
    } else {
      ::unlinkat(directory_fd, name.c_str(), 0);
      error = ENOENT;
    }
  }
  // ENOENT: the file has no name any more, and a file without one takes none.
  constexpr std::array kNotHere{EXDEV, EPERM, EMLINK, EOPNOTSUPP, ENOSYS, EINVAL, ENOENT};
  auto failed = errno_error("link", path(), error, "as " + name);
  if (std::ranges::find(kNotHere, error) != kNotHere.end()) {
    failed.value().kind = ErrorKind::kUnsupported;
  }
  return failed;
}

}  // namespace spillway::swapper
