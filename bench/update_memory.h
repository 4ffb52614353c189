// The planes of one optimizer and number format for so many parameters, in huge pages, and the twin
// of its update: a loop over the same streams in place, with no arithmetic.
#pragma once

#include "trainer/kernels/update.h"

#include <array>
#include <cstddef>
#include <cstdint>

// Anonymous memory in huge pages where the kernel gives them, the same for all. A huge page more
// than needed keeps planes from lying 128 MiB apart: AMD's L1 cache finds its way by a hash of
// address bits 12 to 27 (bit 12 xor 27, 13 xor 26, ...) and holds only one line of a hash, so that
// planes 256 MiB apart push each other out. Here that costs all contenders half their speed.
class Plane {
 public:
  Plane() = default;
  explicit Plane(std::size_t size_bytes);
  Plane(const Plane&) = delete;
  Plane& operator=(const Plane&) = delete;
  Plane(Plane&& other) noexcept;
  Plane& operator=(Plane&& other) noexcept;
  ~Plane();

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  std::size_t size_bytes_ = 0;
};

class UpdateMemory {
 public:
  // Values of the sizes that occur in training, the same for any format.
  UpdateMemory(const spillway::trainer::OptimizerFormat& format, std::size_t count);

  std::size_t count() const { return count_; }
  const spillway::trainer::OptimizerFormat& format() const { return format_; }
  spillway::trainer::UpdatePlanes planes() const;
  // Read and written, all streams.
  double bytes_per_parameter() const;

  // Loads and stores what an update of the range does; the bytes stay what they are.
  // REQUIRES: first and count are multiples of 256.
  void run_twin(std::size_t first, std::size_t count) const;

  // A stream of the memory: so many bytes for 256 parameters; only the gradient is not written.
  struct Stream {
    std::byte* data;
    std::size_t block_bytes;
    bool written;
  };
  static constexpr std::size_t kStreams = 7;
  std::array<Stream, kStreams> streams() const;
  std::uint64_t fingerprint() const;

 private:
  bool bf16_weights() const { return format_.weights == spillway::trainer::Dtype::kBf16; }
  std::size_t state_bytes() const;

  spillway::trainer::OptimizerFormat format_;
  std::size_t count_;
  Plane weight_, lo_, states_[2], absmax_[2], gradient_;
};
