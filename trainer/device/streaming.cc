#include <ATen/Functions.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "trainer/device/kinds.h"

namespace spillway::trainer {
namespace {

using c10::impl::VirtualGuardImpl;

class StreamEvent final : public DeviceEvent {
 public:
  explicit StreamEvent(const c10::Stream& stream) : event_(stream.device_type()) {
    event_.record(stream);
  }
  bool done() const override { return event_.query(); }
  void wait() const override { event_.synchronize(); }
  void block(const c10::Stream& stream) const override { event_.block(stream); }

 private:
  c10::Event event_;
};

}  // namespace

int StreamingKind::count() const noexcept { return VirtualGuardImpl(type_).deviceCount(); }

void StreamingKind::make_current(at::Device device) const {
  VirtualGuardImpl(type_).setDevice(device);
}

at::Tensor StreamingKind::empty(at::IntArrayRef sizes, const at::TensorOptions& options) const {
  return at::empty(sizes, options);
}

DeviceMemory StreamingKind::memory_stats(at::Device device) const {
  constexpr auto kAll = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  c10::DeviceAllocator* allocator = c10::getDeviceAllocator(type_);
  const auto stats = allocator->getDeviceStats(device.index());
  return {static_cast<std::uint64_t>(stats.allocated_bytes[kAll].current),
          static_cast<std::uint64_t>(stats.allocated_bytes[kAll].peak),
          allocator->getMemoryInfo(device.index()).second};
}

c10::Stream StreamingKind::current_stream(at::Device device) const {
  return VirtualGuardImpl(type_).getStream(device);
}

c10::Stream StreamingKind::another_stream(at::Device device) const {
  return VirtualGuardImpl(type_).getStreamFromGlobalPool(device);
}

std::unique_ptr<DeviceEvent> StreamingKind::record(const c10::Stream& stream) const {
  return std::make_unique<StreamEvent>(stream);
}

void StreamingKind::copy_async(const at::Tensor& to, const at::Tensor& from,
                               const c10::Stream& stream) const {
  const c10::StreamGuard guard(stream);  // of the stream's device too
  to.copy_(from, /*non_blocking=*/true);
}

}  // namespace spillway::trainer
