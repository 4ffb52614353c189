// Pool: equal buffers cut from one Slab, handed out as move-only Leases.
//
// Capacity is fixed at start-up. `acquire` makes the caller wait when all buffers are out (that is
// the back-pressure of the pipelines); a size that no buffer can ever hold is refused at once with
// the arithmetic. A Lease is consumed by an I/O and comes back with its completion; dropping it
// returns the buffer to the pool. All calls are thread-safe. A Pool that goes while a Lease is out
// (an I/O that never completed holds it) leaves all its memory mapped for ever, since a device may
// still write there. Under AddressSanitizer a returned buffer is poisoned.
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

// One buffer of a Pool, or nothing. Move-only.
class SPILLWAY_API Lease {
 public:
  Lease() = default;
  // Takes a Buffer back from a completion: what came from a Lease goes back to its Pool.
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
  std::size_t buffer_bytes = 0;  // capacity of each; rounded up to 4096
  std::size_t buffer_count = 0;
  std::string name = {};  // for messages: "optimizer", "parameters"
  Policy huge_pages = Policy::kAuto;
  Policy lock = Policy::kAuto;
  Policy cuda = Policy::kAuto;
  Policy registration = Policy::kAuto;  // with the engine's rings, when an engine is given
  int numa_node = -1;
  aio::LogCallback log = {};  // each policy not met, and memory left mapped for ever
};

class SPILLWAY_API Pool {
 public:
  // One Slab of buffer_count x buffer_bytes, checked against the limits first (check_plan), and
  // registered with `engine` when one is given. A registration that is only wished for and cannot
  // be had is a line in slab().report(); one that is required is refused before anything is mapped,
  // with the arithmetic (kNoMemory), or because the engine has no rings (kUnsupported). `engine`
  // must outlive the Pool. REQUIRES: at least one buffer of one
  // byte; an engine, when registration is required.
  static Result<std::unique_ptr<Pool>> create(const PoolOptions& options,
                                              aio::Engine* engine = nullptr);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  std::size_t buffer_bytes() const noexcept;
  std::size_t buffer_count() const noexcept;
  std::size_t available() const noexcept;
  const Slab& slab() const noexcept;

  // kInvalid, with the arithmetic, when `size_bytes` can never fit into one buffer.
  Result<void> can_hold(std::size_t size_bytes) const;

  // Waits until a buffer is free.
  [[nodiscard]] Lease acquire();
  // Empty when none is free now.
  [[nodiscard]] Lease try_acquire();
  // Empty when none came free until the deadline.
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
