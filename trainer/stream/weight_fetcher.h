// WeightFetcher: brings units' weights to the device, and frees them.
//
// `acquire` waits until this rank's tiles are in memory, all-gathers the parts, and points the
// modules' parameters into one flat array. `release` empties them again. The order of use repeats,
// so the fetcher knows it: while a unit computes, it prefetches the next ones (WeightLoader), at
// least one and as many as the largest unit's memory holds. During an update the weights come
// straight from it (BackgroundUpdate) and are not read at all.
// The weights acquired last stay in memory until another unit is wanted: the head's forward is
// followed by its own backward, and one read serves both. One thread.
#pragma once

#include <ATen/core/Tensor.h>
#include "trainer/states/incoming_unit.h"
#include "trainer/states/model_states.h"
#include "trainer/stream/background_update.h"

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace spillway::trainer {

enum class Phase : std::uint8_t { kForward, kBackward };
// Sweeps of one kind use the units in the same order.
enum class Sweep : std::uint8_t { kTraining, kInference };

class WeightLoader;

class WeightFetcher {
 public:
  // Both must outlive it.
  WeightFetcher(ModelStates& states, BackgroundUpdate& update);
  ~WeightFetcher();

  // Blocks. Throws Failure; all ranks must call it in the same order.
  void acquire(UnitId unit, Phase phase);
  void release(UnitId unit);
  // Frees all weights and cancels all prefetches: the tiles are about to change. Blocks.
  void invalidate();
  // Waits until no prefetch is in flight, so that the tiers are idle. What was read stays.
  // REQUIRES: no update is running.
  void settle();
  // Cancels the prefetch of a unit whose tiles are about to be updated. Blocks, seldom.
  void forget(UnitId unit);
  // Prefetches the first units of a sweep (a step, an evaluation) that begins now or soon.
  void begin_sweep(Sweep sweep);
  // Returns the units in the order in which the last training sweep used them forward.
  std::vector<UnitId> forward_order() const;

  // Return how long computing waited since the last call: for reads, and for updates.
  double take_read_wait_seconds() noexcept { return std::exchange(read_wait_seconds_, 0); }
  double take_update_wait_seconds() noexcept { return std::exchange(update_wait_seconds_, 0); }
  std::uint64_t resident_bytes() const noexcept;  // now
  std::uint64_t peak_resident_bytes() const noexcept { return peak_bytes_; }

 private:
  using Use = std::pair<UnitId, Phase>;
  struct Order {
    std::vector<Use> expected;  // the whole sweep before
    std::size_t position = 0;   // the next one in it
    std::vector<Use> recorded;  // of this sweep
  };
  struct Coming {
    std::shared_ptr<IncomingUnit> weights;  // that fills `part`
    at::Tensor flat;                        // the whole unit's
    at::Tensor part;                        // this rank's share; `flat` itself for one rank
    bool updated = false;                   // they come from the update
  };

  void load(UnitId unit);
  at::Tensor copy_resident(UnitId unit);
  bool in_place(UnitId unit) const;
  at::Tensor gathered(UnitId unit, const at::Tensor& flat, const at::Tensor& part);
  Coming send_for(UnitId unit);
  void send_for_next();
  void note_use(const Use& use);
  std::uint64_t bytes_of(UnitId unit) const;
  void attach(UnitId unit, const at::Tensor& flat);
  void detach(UnitId unit);
  at::Tensor take_flat(UnitId unit);
  at::Tensor part_of(UnitId unit, const at::Tensor& flat) const;

  ModelStates* states_;
  BackgroundUpdate* update_;
  std::map<UnitId, at::Tensor> loaded_;  // flat weights of the units in memory
  std::map<UnitId, Coming> coming_;
  std::vector<at::Tensor> spare_;  // flat arrays to use again
  Order orders_[2];                // of each kind of Sweep
  Sweep sweep_ = Sweep::kTraining;
  std::uint64_t ahead_bytes_ = 0;  // of prefetches that may be in flight
  double read_wait_seconds_ = 0;
  double update_wait_seconds_ = 0;
  std::uint64_t peak_bytes_ = 0;
  std::unique_ptr<WeightLoader> loader_;
};

}  // namespace spillway::trainer
