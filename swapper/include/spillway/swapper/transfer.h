// Transfer: planes of a tile on their way into or out of a Lease.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <spillway/pinned_pool/pool.h>
#include <chrono>
#include <memory>
#include <optional>

namespace spillway::swapper {

// A transfer under way. Move-only; dropping it abandons the transfer (which still ends safely).
class [[nodiscard]] SPILLWAY_API Transfer {
 public:
  // What a Tier implements: finish() blocks until the deadline, then returns the Lease or why not.
  class SPILLWAY_API Impl {
   public:
    virtual ~Impl() = default;
    virtual bool done() const noexcept = 0;
    // For a medium that has a queue.
    virtual void expedite() noexcept {}
    // Called once at most.
    virtual Result<pinned_pool::Lease> finish(std::chrono::steady_clock::time_point deadline) = 0;
    // When the medium was done, known after finish(); nothing where there is no such moment.
    virtual std::optional<std::chrono::steady_clock::time_point> ended() const noexcept {
      return std::nullopt;
    }
  };

  Transfer() = default;
  // One that `impl` carries out.
  explicit Transfer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
  // One that is complete already.
  static Transfer completed(Result<pinned_pool::Lease> result);

  bool valid() const noexcept { return impl_ != nullptr; }
  // Whether wait() would only have to verify. Does not block. REQUIRES: valid().
  bool done() const noexcept;
  // Somebody waits for it now: what has not started of a read goes before all that is not urgent. A
  // write stays in its turn. Does not block. REQUIRES: valid().
  void expedite() noexcept;
  // Blocks until the bytes are moved and, for a read, verified against their checksums (on the
  // calling thread). Consumes the Transfer. REQUIRES: valid(). kDeadline after `timeout`; the Lease
  // then stays with the engine until the kernel has let go of it.
  // `ended`, if given: when the bytes were moved, where the medium is one that is waited for.
  Result<pinned_pool::Lease> wait(
      std::chrono::seconds timeout = kDefaultTimeout,
      std::optional<std::chrono::steady_clock::time_point>* ended = nullptr);

  static constexpr std::chrono::seconds kDefaultTimeout{120};

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace spillway::swapper
