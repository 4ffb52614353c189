#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <spillway/trainer/failure.h>
#include "trainer/kernels/dropout.h"
#include "trainer/kernels/update.h"

#include <algorithm>

#include "trainer/device/kinds.h"
#include "trainer/device/own_pages.h"

namespace spillway::trainer {
namespace {

// Elements that one task of a kernel takes: enough to be worth waking a thread.
constexpr std::int64_t kTaskElements = std::int64_t{1} << 15;

// What was asked for is done when the call returns.
class DoneAlready final : public DeviceEvent {
 public:
  bool done() const override { return true; }
  void wait() const override {}
  void block(const c10::Stream&) const override {}
};

class Cpu final : public DeviceKind {
 public:
  const char* name() const noexcept override { return "cpu"; }
  at::DeviceType type() const noexcept override { return at::kCPU; }
  int count() const noexcept override { return 1; }
  bool has_memory_of_its_own() const noexcept override { return false; }
  const char* collectives() const noexcept override { return "gloo"; }
  pinned_pool::Policy register_host() const noexcept override { return pinned_pool::Policy::kOff; }
  void make_current(at::Device) const override {}

  at::Tensor empty(at::IntArrayRef sizes, const at::TensorOptions& options) const override {
    return empty_on_own_pages(sizes, options);
  }
  DeviceMemory memory_stats(at::Device) const override { return {}; }
  void cap_memory(at::Device, std::uint64_t) const override {
    throw Failure(make_error(ErrorKind::kUnsupported, "cap the memory of the cpu", "",
                             "a limit of the process is the system's to set (a cgroup, ulimit)")
                      .value());
  }

  c10::Stream current_stream(at::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  c10::Stream another_stream(at::Device device) const override { return current_stream(device); }
  std::unique_ptr<DeviceEvent> record(const c10::Stream&) const override {
    return std::make_unique<DoneAlready>();
  }

  void copy_async(const at::Tensor& to, const at::Tensor& from, const c10::Stream&) const override {
    to.copy_(from);
  }
  void launch_update(const UpdateConstants& constants, const UpdatePlanes& planes,
                     std::uint64_t count, const c10::Stream&) const override {
    in_tasks(count, [&](std::uint64_t begin, std::uint64_t end) {
      update_range(constants, planes, begin, end - begin);
    });
  }
  void launch_dropout(const DropoutMask& mask, const DropoutTensor& tensor,
                      const c10::Stream&) const override {
    in_tasks(tensor.samples * tensor.elements,
             [&](std::uint64_t begin, std::uint64_t end) { dropout(mask, tensor, begin, end); });
  }

 private:
  // Calls body(begin, end) for whole tasks of [0, count), by as many threads as libtorch uses.
  template <typename Body>
  static void in_tasks(std::uint64_t count, const Body& body) {
    const auto elements = static_cast<std::int64_t>(count);
    const std::int64_t tasks = (elements + kTaskElements - 1) / kTaskElements;
    at::parallel_for(0, tasks, 1, [&](std::int64_t begin, std::int64_t end) {
      body(static_cast<std::uint64_t>(begin * kTaskElements),
           static_cast<std::uint64_t>(std::min(elements, end * kTaskElements)));
    });
  }
};

}  // namespace

const DeviceKind& cpu_kind() {
  static const Cpu kind;
  return kind;
}

std::vector<const DeviceKind*> built_in_kinds() {
#ifdef SPILLWAY_CUDA
  return {&cpu_kind(), &cuda_kind()};
#else
  return {&cpu_kind()};
#endif
}

}  // namespace spillway::trainer
