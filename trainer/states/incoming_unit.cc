#include "trainer/states/incoming_unit.h"

#include <utility>

namespace spillway::trainer {

IncomingUnit::IncomingUnit(const UnitPartition& partition, std::uint32_t bytes_per_element,
                           std::unique_ptr<WeightDestination> destination)
    : partition_(partition),
      bytes_per_element_(bytes_per_element),
      destination_(std::move(destination)),
      missing_(partition.tiles().size()) {}

void IncomingUnit::put(std::size_t tile, const std::byte* weights) {
  const TileSpan& span = partition_.tiles()[tile];
  const std::uint64_t before =
      span.section == kFrozen ? partition_.part_elements(kTrainable) : std::uint64_t{0};
  const std::uint64_t bytes = span.elements * bytes_per_element_;
  {
    const TraceSpan copying(trace_, Lane::kCopy, "copy",
                            {.bytes = bytes,
                             .unit = static_cast<std::int32_t>(unit_),
                             .tile = static_cast<std::int32_t>(tile)});
    destination_->copy((before + span.offset) * bytes_per_element_, {weights, bytes});
  }
  const MutexLock lock(mutex_);
  if (--missing_ == 0) changed_.notify_all();
}

void IncomingUnit::fail(std::exception_ptr why) {
  const MutexLock lock(mutex_);
  if (!failure_) failure_ = std::move(why);
  changed_.notify_all();
}

bool IncomingUnit::urgent_within(std::chrono::microseconds time) {
  MutexLock lock(mutex_);
  return changed_.wait_for(lock, time, [&] { return urgent(); });
}

void IncomingUnit::wait() {
  MutexLock lock(mutex_);
  urgent_.store(true, std::memory_order_relaxed);
  changed_.notify_all();
  while (missing_ > 0 && !failure_) changed_.wait(lock);
  if (missing_ > 0) std::rethrow_exception(failure_);
}

}  // namespace spillway::trainer
