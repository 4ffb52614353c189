// Pool: buffers of equal size, cut from one Slab and lent as move-only Leases.
//
// The capacity is fixed at start-up. `acquire` blocks while all buffers are lent: that is the
// back-pressure of the pipelines. An I/O consumes a Lease and its completion returns it; dropping
// a Lease returns the buffer to the pool. Under AddressSanitizer a returned buffer is poisoned.
//
// In a forked child the pool lends nothing: `acquire` returns an empty Lease at once, `usable` says
// why, and the destructors of the pool and its Leases do nothing (aio::OwnerProcess).
//
// Threads: any. Ownership: the engine must outlive the Pool. If a Pool is destroyed while an I/O
// that never completed holds a Lease, all its memory stays mapped, because a device may still write
// into it.
#pragma once

#include <spillway/aio/buffer.h>
#include <spillway/aio/export.h>
#include <spillway/pinned_pool/slab.h>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>

namespace spillway::pinned_pool {

// Lease: one buffer of a Pool, or empty. Move-only.
class SPILLWAY_API Lease {
 public:
  Lease() = default;
  // Wraps the Buffer of a completion; it still returns to the Pool that lent it.
  explicit Lease(aio::Buffer buffer) noexcept : buffer_(std::move(buffer)) {}

  std::byte* data() const noexcept { return buffer_.data(); }
  std::size_t capacity() const noexcept { return buffer_.capacity(); }
  explicit operator bool() const noexcept { return static_cast<bool>(buffer_); }
  // Consumes the Lease for an I/O.
  aio::Buffer release() && noexcept { return std::move(buffer_); }

 private:
  aio::Buffer buffer_;
};

struct PoolOptions {
  std::size_t buffer_bytes = 0;  // capacity of each; rounded up to a multiple of 4096
  std::size_t buffer_count = 0;
  std::string name = {};  // for messages: "optimizer", "parameters"
  Policy huge_pages = Policy::kAuto;
  Policy lock = Policy::kAuto;
  Policy cuda = Policy::kAuto;
  Policy registration = Policy::kAuto;  // with the engine's rings, if there is an engine
  int numa_node = -1;
  aio::LogCallback log = {};  // each policy not met, and memory that stays mapped
};

class SPILLWAY_API Pool {
 public:
  // Allocates one Slab of buffer_count x buffer_bytes, after check_plan, and registers it with
  // `engine`, if given. A registration that fails under kAuto is a line in `slab().report()`. Under
  // kRequired it is an error before any memory is mapped: kNoMemory with the arithmetic, or
  // kUnsupported if the engine has no rings. REQUIRES: at least one buffer of one byte; an engine,
  // if registration is required.
  static Result<std::unique_ptr<Pool>> create(const PoolOptions& options,
                                              aio::Engine* engine = nullptr);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  std::size_t buffer_bytes() const noexcept;
  std::size_t buffer_count() const noexcept;
  std::size_t available() const noexcept;
  const Slab& slab() const noexcept;

  // Checks that this is the process that made the pool; kInvalid in a forked child.
  Result<void> usable() const;
  // Checks that one buffer can hold `size_bytes`; kInvalid, with the arithmetic, if not.
  Result<void> can_hold(std::size_t size_bytes) const;

  // Blocks until a buffer is free.
  [[nodiscard]] Lease acquire();
  // Returns an empty Lease if no buffer is free now.
  [[nodiscard]] Lease try_acquire();
  // Blocks until a buffer is free; returns an empty Lease at the deadline.
  [[nodiscard]] Lease acquire_until(std::chrono::steady_clock::time_point deadline);

 private:
  struct SPILLWAY_LOCAL State;
  SPILLWAY_LOCAL static Result<std::unique_ptr<Pool>> make(const PoolOptions& options,
                                                           aio::Engine* engine);
  explicit Pool(std::unique_ptr<State> state);
  SPILLWAY_LOCAL static std::atomic<State*> g_lost;
  std::unique_ptr<State> state_;
};

}  // namespace spillway::pinned_pool
