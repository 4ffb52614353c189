// DeviceKind: what the trainer asks of the kind of device on which units run (cpu, cuda): its
// memory, copies, streams, and the kernels of our own.
//
// Nothing else in the trainer asks which kind it has. An implementation has no state of its own: an
// at::Device says which one of the kind is meant. Any thread may call. Work goes to the stream that
// is given, whatever device is current; `copy` alone waits. What memory a stream still uses lives
// until an event recorded after it is done. All members throw Failure or c10::Error.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>
#include <spillway/pinned_pool/slab.h>

#include <cstdint>
#include <memory>

namespace spillway::trainer {

struct DropoutMask;
struct DropoutTensor;
struct UpdateConstants;
struct UpdatePlanes;

// A point in the work of a stream. Destroying it waits for nothing.
class DeviceEvent {
 public:
  virtual ~DeviceEvent() = default;
  // True if all work before it is done. Never blocks.
  virtual bool done() const = 0;
  // Blocks the calling thread until it is.
  virtual void wait() const = 0;
  // Lets later work of `stream` wait for it. Does not block the calling thread.
  virtual void block(const c10::Stream& stream) const = 0;
};

// Of one device, in bytes: what its tensors take now, took at most, and may take.
struct DeviceMemory {
  std::uint64_t used = 0;
  std::uint64_t peak = 0;
  std::uint64_t limit = 0;
};

class DeviceKind {
 public:
  virtual ~DeviceKind() = default;

  virtual const char* name() const noexcept = 0;
  virtual at::DeviceType type() const noexcept = 0;
  // How many devices of the kind this process can use.
  virtual int count() const noexcept = 0;
  // False: units compute in host memory, and nothing has to be copied to them.
  virtual bool has_memory_of_its_own() const noexcept = 0;
  // The backend of c10d that exchanges its memory between ranks: "gloo", "nccl".
  virtual const char* collectives() const noexcept = 0;
  // How host memory that is copied to and from it is registered (SlabOptions::cuda): copies of
  // registered memory need no staging.
  virtual pinned_pool::Policy register_host() const noexcept = 0;
  // Makes `device` the calling thread's current one: contexts are created there.
  virtual void make_current(at::Device device) const = 0;

  // Memory for a tensor that lives from unit to unit, uninitialised. Throws when there is none.
  virtual at::Tensor empty(at::IntArrayRef sizes, const at::TensorOptions& options) const = 0;
  virtual DeviceMemory memory_stats(at::Device device) const = 0;
  // Lets tensors on `device` take at most so many bytes: beyond, an allocation throws
  // c10::OutOfMemoryError. Throws Failure where the kind has no memory of its own.
  virtual void cap_memory(at::Device device, std::uint64_t bytes) const = 0;

  // The calling thread's stream on `device`, and another one that runs beside it.
  virtual c10::Stream current_stream(at::Device device) const = 0;
  virtual c10::Stream another_stream(at::Device device) const = 0;
  virtual std::unique_ptr<DeviceEvent> record(const c10::Stream& stream) const = 0;

  // Copies `from` to `to` (the same shape; a type may change) between host and device.
  virtual void copy_async(const at::Tensor& to, const at::Tensor& from,
                          const c10::Stream& stream) const = 0;
  // Updates elements [0, count) of planes in the device's memory, with the bits of update_range.
  // `planes.pieces` is read before it returns. REQUIRES: states in fp32.
  virtual void launch_update(const UpdateConstants& constants, const UpdatePlanes& planes,
                             std::uint64_t count, const c10::Stream& stream) const = 0;
  // Applies `mask` to a tensor in the device's memory, with the bits of dropout().
  virtual void launch_dropout(const DropoutMask& mask, const DropoutTensor& tensor,
                              const c10::Stream& stream) const = 0;

  // Copies on the current stream of whichever side is a device of the kind, and waits.
  void copy(const at::Tensor& to, const at::Tensor& from) const;
};

// The kind of `device`. REQUIRES: this build has it, or it was registered.
const DeviceKind& kind_of(at::Device device);

// While it lives, `kind` is that of its type: how a simulated device comes in. REQUIRES: no work of
// the type is running; `kind` outlives it.
class DeviceRegistration {
 public:
  explicit DeviceRegistration(const DeviceKind& kind);
  DeviceRegistration(const DeviceRegistration&) = delete;
  DeviceRegistration& operator=(const DeviceRegistration&) = delete;
  ~DeviceRegistration();

 private:
  at::DeviceType type_;
  const DeviceKind* before_;
};

}  // namespace spillway::trainer
