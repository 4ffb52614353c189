// The kinds of devices that this build has, and what those with streams share. Internal to device.
#pragma once

#include <vector>

#include "trainer/device/device.h"

namespace spillway::trainer {

const DeviceKind& cpu_kind();
// Built only with a CUDA toolkit.
const DeviceKind& cuda_kind();
std::vector<const DeviceKind*> built_in_kinds();

// A kind whose work goes to streams, by what c10 offers for any: CUDA, and what registers itself
// under PrivateUse1. What is left to say is how kernels are launched and memory is capped.
class StreamingKind : public DeviceKind {
 public:
  explicit StreamingKind(at::DeviceType type) : type_(type) {}
  at::DeviceType type() const noexcept override { return type_; }
  int count() const noexcept override;
  bool has_memory_of_its_own() const noexcept override { return true; }
  void make_current(at::Device device) const override;
  at::Tensor empty(at::IntArrayRef sizes, const at::TensorOptions& options) const override;
  DeviceMemory memory_stats(at::Device device) const override;
  c10::Stream current_stream(at::Device device) const override;
  c10::Stream another_stream(at::Device device) const override;
  std::unique_ptr<DeviceEvent> record(const c10::Stream& stream) const override;
  void copy_async(const at::Tensor& to, const at::Tensor& from,
                  const c10::Stream& stream) const override;

 private:
  at::DeviceType type_;
};

}  // namespace spillway::trainer
