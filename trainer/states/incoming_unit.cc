#include "trainer/states/incoming_unit.h"
#include <ATen/Functions.h>
#include "trainer/device/device.h"

#include <cstring>

namespace spillway::trainer {

IncomingUnit::IncomingUnit(const UnitPartition& partition, at::Tensor flat, at::Tensor part)
    : partition_(partition),
      flat_(std::move(flat)),
      part_(std::move(part)),
      missing_(partition.tiles().size()) {
  const DeviceKind& device = kind_of(part_.device());
  if (!device.has_memory_of_its_own()) return;
  // The memory may still be read by kernels of the unit that had it before: the copies come after.
  stream_ = device.another_stream(part_.device());
  device.record(device.current_stream(part_.device()))->block(*stream_);
}

void IncomingUnit::put(std::size_t tile, const std::byte* weights) {
  const TileSpan& span = partition_.tiles()[tile];
  const auto before = span.section == kFrozen ? partition_.part_elements(kTrainable) : 0;
  const at::Tensor target = part_.narrow(0, static_cast<std::int64_t>(before + span.offset),
                                         static_cast<std::int64_t>(span.elements));
  const TraceSpan copying(trace_, Lane::kCopy, "copy",
                          {.bytes = target.nbytes(),
                           .unit = static_cast<std::int32_t>(unit_),
                           .tile = static_cast<std::int32_t>(tile)});
  if (stream_) {
    const DeviceKind& device = kind_of(part_.device());
    auto* bytes = const_cast<std::byte*>(weights);  // from_blob has no other way to say it
    const auto options = at::TensorOptions().dtype(target.dtype());
    device.copy_async(target, at::from_blob(bytes, {target.numel()}, options), *stream_);
    device.record(*stream_)->wait();  // the caller's memory is its own again
  } else {
    std::memcpy(target.data_ptr(), weights, target.nbytes());
  }
  const std::lock_guard lock(mutex_);
  if (--missing_ == 0) changed_.notify_all();
}

void IncomingUnit::fail(std::exception_ptr why) {
  const std::lock_guard lock(mutex_);
  if (!failure_) failure_ = std::move(why);
  changed_.notify_all();
}

bool IncomingUnit::urgent_within(std::chrono::microseconds time) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, time, [&] { return urgent(); });
}

void IncomingUnit::wait() {
  std::unique_lock lock(mutex_);
  urgent_.store(true, std::memory_order_relaxed);
  changed_.notify_all();
  changed_.wait(lock, [&] { return missing_ == 0 || failure_; });
  if (missing_ > 0) std::rethrow_exception(failure_);
}

}  // namespace spillway::trainer
