// The memory of a spillway_io: its lease's or the caller's own.
#pragma once

#include "objects.h"

namespace spillway::c {

class IoMemory {
 public:
  // Checks `io` but for its file, and finds the lease.
  static tl::expected<IoMemory, spillway_status> of(const spillway_io& io, const char* what);

  // Takes the memory for a transfer. SPILLWAY_IN_USE if another one has the lease's.
  tl::expected<aio::Buffer, spillway_status> take(const char* what);
  // Gives it back after the transfer, and returns its outcome; `moved` may be NULL.
  spillway_status put_back(aio::Completion completion, std::size_t* moved);
  // Bytes from the start of the Buffer that `take` returns.
  std::size_t offset() const noexcept { return offset_; }

 private:
  Use<LeaseObject> lease_;  // empty: the caller's own memory
  std::span<std::byte> own_;
  std::size_t offset_ = 0;
};

}  // namespace spillway::c
