#include <spillway/aio/check.h>
#include <spillway/swapper/sealed_tile.h>

namespace spillway::swapper {

Result<void> SealedSegment::sync() {
  const MutexLock guard(mutex_);
  if (!synced_) synced_ = file_.sync();
  return *synced_;
}

Result<void> SealedSegment::read(std::uint64_t offset, std::span<std::byte> to) const {
  SPILLWAY_CHECK(offset % kPlaneAlignment == 0 && to.size() % kPlaneAlignment == 0,
                 "whole pages of a segment are read");
  return aio::read_exactly(file_.fd(), offset, to, path());
}

}  // namespace spillway::swapper
