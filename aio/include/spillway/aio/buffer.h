// Buffer: a move-only handle on memory for an I/O.
//
// An I/O consumes the Buffer and its completion returns it, so "the memory must outlive the I/O"
// is a rule of the type. The maker (a pool, the heap, a test) passes a `release` function; it runs
// exactly once, when the last holder drops the Buffer. The engine is that holder while the device
// may still write into the memory, so an abandoned request never frees memory under an I/O.
// Threads: one at a time; `release` may run on any thread.
#pragma once

#include <spillway/aio/export.h>
#include <cstddef>
#include <span>

namespace spillway::aio {

class SPILLWAY_API Buffer {
 public:
  // Called once when the Buffer is dropped. Must not throw and must be callable from any thread.
  using Release = void (*)(void* owner, std::byte* data, std::size_t capacity) noexcept;

  Buffer() = default;
  // Wraps memory that `release` frees; with nullptr nobody frees it.
  Buffer(std::byte* data, std::size_t capacity, Release release, void* owner) noexcept
      : data_(data), capacity_(capacity), release_(release), owner_(owner) {}
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer(static_cast<Buffer&&>(other)).swap(*this);
    return *this;
  }
  ~Buffer() {
    if (release_ != nullptr) release_(owner_, data_, capacity_);
  }

  // Allocates heap memory aligned to `alignment` (a power of two) and frees it when dropped.
  static Buffer allocate(std::size_t capacity, std::size_t alignment = 4096);
  // Borrows the caller's memory. REQUIRES: it lives until the Buffer is returned and dropped.
  static Buffer borrow(std::span<std::byte> memory) noexcept {
    return {memory.data(), memory.size(), nullptr, nullptr};
  }

  // Forgets the memory without freeing it, because a device may still write into it.
  void leak() noexcept {
    release_ = nullptr;
    *this = Buffer();
  }

  std::byte* data() const noexcept { return data_; }
  std::size_t capacity() const noexcept { return capacity_; }
  void* owner() const noexcept { return owner_; }
  // Returns the first `bytes` of the memory.
  std::span<std::byte> first(std::size_t bytes) const noexcept { return {data_, bytes}; }
  explicit operator bool() const noexcept { return data_ != nullptr; }

 private:
  void swap(Buffer& other) noexcept {
    auto exchange = [](auto& a, auto& b) {
      auto t = a;
      a = b;
      b = t;
    };
    exchange(data_, other.data_);
    exchange(capacity_, other.capacity_);
    exchange(release_, other.release_);
    exchange(owner_, other.owner_);
  }

  std::byte* data_ = nullptr;
  std::size_t capacity_ = 0;
  Release release_ = nullptr;
  void* owner_ = nullptr;
};

}  // namespace spillway::aio
