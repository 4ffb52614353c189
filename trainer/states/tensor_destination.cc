#include "trainer/states/tensor_destination.h"
#include <ATen/Functions.h>
#include "trainer/device/device.h"

#include <cstring>

namespace spillway::trainer {

TensorDestination::TensorDestination(const at::Tensor& part) : bytes_(part.view(at::kByte)) {
  const DeviceKind& device = kind_of(bytes_.device());
  if (!device.has_memory_of_its_own()) return;
  stream_ = device.another_stream(bytes_.device());
  device.record(device.current_stream(bytes_.device()))->block(*stream_);
}

void TensorDestination::copy(std::uint64_t offset_bytes, std::span<const std::byte> weights) {
  if (!stream_) {
    std::memcpy(static_cast<std::byte*>(bytes_.data_ptr()) + offset_bytes, weights.data(),
                weights.size());
    return;
  }
  const DeviceKind& device = kind_of(bytes_.device());
  const auto size = static_cast<std::int64_t>(weights.size());
  auto* from = const_cast<std::byte*>(weights.data());  // from_blob takes nothing else
  const at::Tensor source = at::from_blob(from, {size}, at::TensorOptions().dtype(at::kByte));
  device.copy_async(bytes_.narrow(0, static_cast<std::int64_t>(offset_bytes), size), source,
                    *stream_);
  device.record(*stream_)->wait();  // the caller's memory is its own again
}

}  // namespace spillway::trainer
