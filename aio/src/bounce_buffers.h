// BounceBuffers: aligned memory for the parts of a request that direct I/O cannot move in place.
//
// Their number is fixed, so unaligned requests wait for each other, not for the heap. The memory is
// mapped lazily: pages that no unaligned request touches cost nothing. Threads: one.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "piece.h"

namespace spillway::aio {

class BounceBuffers {
 public:
  explicit BounceBuffers(std::uint32_t queue_depth)
      : count_(std::min<std::size_t>(queue_depth, kMost)) {}
  ~BounceBuffers() {
    if (memory_ != nullptr) ::munmap(memory_, count_ * kBounceBytes);
  }
  BounceBuffers(const BounceBuffers&) = delete;
  BounceBuffers& operator=(const BounceBuffers&) = delete;

  Result<void> map() {
    void* memory = ::mmap(nullptr, count_ * kBounceBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return errno_error("map bounce buffers", "", errno);
    memory_ = static_cast<std::byte*>(memory);
    for (std::size_t i = 0; i < count_; ++i) free_.push_back(memory_ + i * kBounceBytes);
    return {};
  }

  std::size_t available() const noexcept { return free_.size(); }
  std::byte* take() {
    std::byte* buffer = free_.back();
    free_.pop_back();
    return buffer;
  }
  void put(std::byte* buffer) { free_.push_back(buffer); }
  // Never unmaps the memory, because the device may still write into some of it.
  void leak() noexcept { memory_ = nullptr; }

 private:
  static constexpr std::size_t kMost = 16;

  const std::size_t count_;
  std::byte* memory_ = nullptr;
  std::vector<std::byte*> free_;
};

}  // namespace spillway::aio
