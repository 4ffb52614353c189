// IncomingUnit: one unit's weights on their way into memory.
//
// Made by the thread that will use them, filled tile by tile by others (the fetcher's from the
// tiers, the update's with the tiles it has just computed), then waited for. Shared by these
// threads; whoever lets go of it last frees the memory, so one that is no longer wanted may simply
// be dropped while it is filled. On a GPU the copies have a stream of their own.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>
#include <spillway/trainer/trace.h>
#include <spillway/trainer/unit.h>
#include "trainer/plan/partition.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <optional>

namespace spillway::trainer {

class IncomingUnit {
 public:
  // `flat`: the whole unit's weights; `part`: this rank's share of them in the order of the
  // partition's tiles, which is `flat` itself for one rank. `partition` must outlive it.
  IncomingUnit(const UnitPartition& partition, at::Tensor flat, at::Tensor part);
  // Has the copies traced, as of that unit. Before it is shared.
  void set_trace(Trace* trace, UnitId unit) noexcept {
    trace_ = trace;
    unit_ = unit;
  }

  // Copies a tile's weights to their place. Any thread, each tile once.
  void put(std::size_t tile, const std::byte* weights);
  // What is missing will not come. Any thread.
  void fail(std::exception_ptr why);

  // Blocks until every tile is there; throws what `fail` was told.
  void wait();
  // Whether somebody waits: who fills it makes haste.
  bool urgent() const noexcept { return urgent_.load(std::memory_order_relaxed); }
  // Blocks until somebody waits, or for that long; says whether somebody does.
  bool urgent_within(std::chrono::microseconds time);
  // Its weights are not wanted any more: who fills it may stop.
  void abandon() noexcept { abandoned_.store(true, std::memory_order_relaxed); }
  bool abandoned() const noexcept { return abandoned_.load(std::memory_order_relaxed); }

  const at::Tensor& flat() const noexcept { return flat_; }
  const at::Tensor& part() const noexcept { return part_; }

 private:
  const UnitPartition& partition_;
  const at::Tensor flat_;
  const at::Tensor part_;
  Trace* trace_ = nullptr;
  UnitId unit_ = 0;
  std::optional<c10::Stream> stream_;  // of the copies, on a GPU
  std::atomic<bool> urgent_{false};
  std::atomic<bool> abandoned_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t missing_;  // tiles; under mutex_
  std::exception_ptr failure_;
};

}  // namespace spillway::trainer
