#include <ATen/Context.h>
#include <c10/core/DeviceGuard.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>
#include <spillway/trainer/failure.h>
#include "trainer/kernels/dropout_cuda.h"
#include "trainer/kernels/update_cuda.h"

#include <algorithm>

#include "trainer/device/kinds.h"

namespace spillway::trainer {
namespace {

namespace allocator = c10::cuda::CUDACachingAllocator;

struct NoWarnings : c10::WarningHandler {
  void process(const c10::Warning& /*warning*/) override {}
};

class Cuda final : public StreamingKind {
 public:
  Cuda() : StreamingKind(at::kCUDA) {}
  const char* name() const noexcept override { return "cuda"; }
  // Where no driver works, c10 warns at the first count of the process. Whoever asked for CUDA gets
  // an error instead, and the others need not know.
  int count() const noexcept override {
    NoWarnings none;
    const c10::WarningUtils::WarningHandlerGuard guard(&none);
    return at::hasCUDA() ? StreamingKind::count() : 0;
  }
  const char* collectives() const noexcept override { return "nccl"; }
  pinned_pool::Policy register_host() const noexcept override { return pinned_pool::Policy::kAuto; }

  DeviceMemory memory_stats(at::Device device) const override {
    DeviceMemory memory = StreamingKind::memory_stats(device);
    memory.limit = static_cast<std::uint64_t>(static_cast<double>(memory.limit) *
                                              allocator::getMemoryFraction(device.index()));
    return memory;
  }
  void cap_memory(at::Device device, std::uint64_t bytes) const override {
    const std::size_t all = allocator::get()->getMemoryInfo(device.index()).second;
    allocator::setMemoryFraction(
        std::min(1.0, static_cast<double>(bytes) / static_cast<double>(all)), device.index());
  }

  void launch_update(const UpdateConstants& constants, const UpdatePlanes& planes,
                     std::uint64_t count, const c10::Stream& stream) const override {
    const c10::DeviceGuard guard(stream.device());
    value_or_throw(
        update_range_cuda(constants, planes, 0, count, c10::cuda::CUDAStream(stream).stream()));
  }
  void launch_dropout(const DropoutMask& mask, const DropoutTensor& tensor,
                      const c10::Stream& stream) const override {
    const c10::DeviceGuard guard(stream.device());
    value_or_throw(dropout_cuda(mask, tensor, c10::cuda::CUDAStream(stream).stream()));
  }
};

}  // namespace

const DeviceKind& cuda_kind() {
  static const Cuda kind;
  return kind;
}

}  // namespace spillway::trainer
