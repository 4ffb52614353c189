// IncomingUnit: the weights of one unit that other threads are writing into memory.
//
// The thread that will use them makes it. Other threads fill it tile by tile: WeightLoader from the
// tiers, BackgroundUpdate with the tiles that it has just computed. The first thread then waits.
// All of them share it, and the last one to drop it frees the memory. So a unit that is no longer
// wanted may be dropped while another thread fills it.
#pragma once

#include <spillway/aio/mutex.h>
#include <spillway/trainer/trace.h>
#include <spillway/trainer/unit_id.h>
#include "trainer/plan/partition.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>

namespace spillway::trainer {

// Memory for this rank's share of a unit's weights, on whatever device. Owns the memory or shares
// it: `copy` may be called for as long as the object lives. Any thread, each byte once.
class WeightDestination {
 public:
  virtual ~WeightDestination() = default;
  // Copies `weights` to the bytes that start at `offset_bytes`. Returns when the caller may change
  // them again.
  virtual void copy(std::uint64_t offset_bytes, std::span<const std::byte> weights) = 0;
};

class IncomingUnit {
 public:
  // `destination`: takes this rank's share in the order of the partition's tiles.
  // `partition` must outlive it.
  IncomingUnit(const UnitPartition& partition, std::uint32_t bytes_per_element,
               std::unique_ptr<WeightDestination> destination);
  // Records the copies in `trace` as those of `unit`. Call it before sharing the object.
  void set_trace(Trace* trace, UnitId unit) noexcept {
    trace_ = trace;
    unit_ = unit;
  }

  // Copies the weights of a tile to their place. Any thread, each tile once.
  void put(std::size_t tile, const std::byte* weights) SPILLWAY_EXCLUDES(mutex_);
  // Says that the missing tiles will not come, and why. Any thread.
  void fail(std::exception_ptr why) SPILLWAY_EXCLUDES(mutex_);

  // Blocks until every tile has come. Throws the exception that was passed to `fail`.
  void wait() SPILLWAY_EXCLUDES(mutex_);
  // True if a thread waits: then whoever fills the unit makes haste.
  bool urgent() const noexcept { return urgent_.load(std::memory_order_relaxed); }
  // Blocks until a thread waits, but at most for `time`. Returns as `urgent`.
  bool urgent_within(std::chrono::microseconds time) SPILLWAY_EXCLUDES(mutex_);
  // Says that nobody wants the weights any more: whoever fills the unit may stop.
  void abandon() noexcept { abandoned_.store(true, std::memory_order_relaxed); }
  bool abandoned() const noexcept { return abandoned_.load(std::memory_order_relaxed); }

 private:
  const UnitPartition& partition_;
  const std::uint32_t bytes_per_element_;
  const std::unique_ptr<WeightDestination> destination_;
  Trace* trace_ = nullptr;
  UnitId unit_ = 0;
  std::atomic<bool> urgent_{false};
  std::atomic<bool> abandoned_{false};
  Mutex mutex_;
  CondVar changed_;
  std::size_t missing_ SPILLWAY_GUARDED_BY(mutex_);  // tiles
  std::exception_ptr failure_ SPILLWAY_GUARDED_BY(mutex_);
};

}  // namespace spillway::trainer
