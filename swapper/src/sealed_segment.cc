#include <unistd.h>

#include <spillway/aio/check.h>
#include <spillway/swapper/sealed_tile.h>
#include <cerrno>

namespace spillway::swapper {

Result<void> SealedSegment::sync() {
  const std::lock_guard guard(mutex_);
  if (!synced_) synced_ = file_.sync();
  return *synced_;
}

Result<void> SealedSegment::read(std::uint64_t offset, std::span<std::byte> to) const {
  SPILLWAY_CHECK(offset % kPlaneAlignment == 0 && to.size() % kPlaneAlignment == 0,
                 "whole pages of a segment are read");
  for (std::size_t got = 0; got < to.size();) {
    const ssize_t count =
        ::pread(file_.fd(), to.data() + got, to.size() - got, static_cast<off_t>(offset + got));
    if (count < 0 && errno == EINTR) continue;
    if (count > 0) {
      got += static_cast<std::size_t>(count);
      continue;
    }
    auto failed = count < 0 ? errno_error("read", path(), errno)
                            : make_error(ErrorKind::kShortTransfer, "read", path(),
                                         "the file ends too early");
    failed.value().offset = offset;
    failed.value().wanted = to.size();
    failed.value().got = got;
    return failed;
  }
  return {};
}

}  // namespace spillway::swapper
