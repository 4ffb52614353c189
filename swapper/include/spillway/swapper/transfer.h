// Transfer: planes of a tile in flight into or out of a Lease. Threads: one at a time.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <spillway/pinned_pool/pool.h>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>

namespace spillway::swapper {

// Transfer: a transfer in flight. Move-only; dropping it abandons the transfer, which still ends
// safely.
class [[nodiscard]] SPILLWAY_API Transfer {
 public:
  // The part that a Tier implements.
  class SPILLWAY_API Impl {
   public:
    virtual ~Impl() = default;
    virtual bool done() const noexcept = 0;
    // See Transfer::expedite; for a medium with a queue.
    virtual void expedite() noexcept {}
    virtual void cancel() noexcept {}
    // See Transfer::when_done. REQUIRES, unless it is overridden: done().
    virtual void when_done(std::function<void()> function);
    // Blocks until the deadline; returns the Lease or the failure. Called at most once.
    virtual Result<pinned_pool::Lease> finish(std::chrono::steady_clock::time_point deadline) = 0;
    // Returns the time when the medium was done, known after `finish`; nothing without a medium.
    virtual std::optional<std::chrono::steady_clock::time_point> ended() const noexcept {
      return std::nullopt;
    }
  };

  Transfer() = default;
  // Makes the transfer that `impl` carries out.
  explicit Transfer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
  // Makes a transfer that is already complete.
  static Transfer completed(Result<pinned_pool::Lease> result);

  bool valid() const noexcept { return impl_ != nullptr; }
  // True if `wait` would only have to verify. Does not block. REQUIRES: valid().
  bool done() const noexcept;
  // Makes the unstarted rest of a read urgent, because a thread now waits for it. Does not affect
  // writes. Does not block. REQUIRES: valid().
  void expedite() noexcept;
  // Cancels a read, if the medium has a queue: the Transfer ends soon, with kCancelled, or normally
  // if it was too late. Does not affect writes. Does not block. REQUIRES: valid().
  void cancel() noexcept;
  // Calls `function` once when the Transfer is done: on an engine's thread, or at once on this one.
  // It must not block. A dropped Transfer calls it too. REQUIRES: valid(), not called before; the
  // Transfer of a TileStore, or done().
  void when_done(std::function<void()> function);
  // Blocks until the bytes are moved and, for a read, verified on the calling thread. Consumes the
  // Transfer. kDeadline after `timeout`: the engine then keeps the Lease until the kernel is done
  // with it. Sets `ended`, if given, to the time when the medium was done. REQUIRES: valid().
  Result<pinned_pool::Lease> wait(
      std::chrono::seconds timeout = kDefaultTimeout,
      std::optional<std::chrono::steady_clock::time_point>* ended = nullptr);

  static constexpr std::chrono::seconds kDefaultTimeout{120};

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace spillway::swapper
