// A device with memory of its own, as far as the trainer can tell: its memory is RAM, its tensors
// are libtorch's of the CPU, and it counts what it is asked to do. Registered, it shows that code
// asks the seam (device.h) and not CUDA.
#pragma once

#include <ATen/Functions.h>
#include "trainer/device/device.h"
#include "trainer/device/kinds.h"
#include "trainer/kernels/dropout.h"
#include "trainer/kernels/update.h"

#include <atomic>
#include <cstdint>
#include <memory>

namespace spillway::trainer::testing {

class FakeDevice final : public DeviceKind {
 public:
  // Of another type than the CPU's it has names alone, no tensors.
  explicit FakeDevice(at::DeviceType type = at::kCPU) : type_(type) {}

  std::uint64_t copies() const { return copies_; }
  std::uint64_t updated_elements() const { return updated_elements_; }
  std::uint64_t dropped_out_elements() const { return dropped_out_elements_; }
  std::uint64_t waits() const { return waits_; }
  int current_device() const { return current_; }

  const char* name() const noexcept override { return "fake"; }
  at::DeviceType type() const noexcept override { return type_; }
  int count() const noexcept override { return 2; }
  bool has_memory_of_its_own() const noexcept override { return true; }
  const char* collectives() const noexcept override { return "gloo"; }
  pinned_pool::Policy register_host() const noexcept override { return pinned_pool::Policy::kOff; }
  void make_current(at::Device device) const override { current_ = device.index(); }

  at::Tensor empty(at::IntArrayRef sizes, const at::TensorOptions& options) const override {
    at::Tensor tensor = at::empty(sizes, options);
    const std::uint64_t bytes = tensor.nbytes();
    TORCH_CHECK_WITH(OutOfMemoryError, used_ + bytes <= cap_, "the fake device is full");
    used_ += bytes;
    return at::from_blob(
        tensor.data_ptr(), sizes, [this, tensor, bytes](void*) { used_ -= bytes; },
        at::TensorOptions().dtype(options.dtype()));
  }
  DeviceMemory memory_stats(at::Device) const override { return {used_, used_, cap_}; }
  void cap_memory(at::Device, std::uint64_t bytes) const override { cap_ = bytes; }

  c10::Stream current_stream(at::Device device) const override {
    return cpu_kind().current_stream(device);
  }
  c10::Stream another_stream(at::Device device) const override { return current_stream(device); }
  std::unique_ptr<DeviceEvent> record(const c10::Stream& stream) const override {
    ++waits_;
    return cpu_kind().record(stream);
  }

  void copy_async(const at::Tensor& to, const at::Tensor& from, const c10::Stream&) const override {
    ++copies_;
    to.copy_(from);
  }
  void launch_update(const UpdateConstants& constants, const UpdatePlanes& planes,
                     std::uint64_t count, const c10::Stream&) const override {
    updated_elements_ += count;
    update_range(constants, planes, 0, count);
  }
  void launch_dropout(const DropoutMask& mask, const DropoutTensor& tensor,
                      const c10::Stream& stream) const override {
    dropped_out_elements_ += tensor.samples * tensor.elements;
    cpu_kind().launch_dropout(mask, tensor, stream);
  }

 private:
  at::DeviceType type_;
  mutable std::atomic<std::uint64_t> copies_{0};
  mutable std::atomic<std::uint64_t> updated_elements_{0};
  mutable std::atomic<std::uint64_t> dropped_out_elements_{0};
  mutable std::atomic<std::uint64_t> waits_{0};
  mutable std::atomic<std::uint64_t> used_{0};
  mutable std::atomic<std::uint64_t> cap_{UINT64_MAX};
  mutable std::atomic<int> current_{-1};
};

}  // namespace spillway::trainer::testing
