// WeightFetcher: brings units' weights to the device and lets go of them.
//
// `acquire` waits until this rank's tiles are in memory, all-gathers the parts, and points the
// modules' parameters into one flat array; `release` empties them again. The order of use repeats,
// so it is known ahead: while a unit computes, the next ones are on their way (WeightLoader), at
// least one and as many as the largest unit's memory holds. Where an update is under way the
// weights come straight from it (BackgroundUpdate) and are not read at all.
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
  // Forgets what is in memory or on its way: the tiles are about to change. Blocks.
  void invalidate();
  // Waits until nothing is on its way: tiers may be asked for what wants them idle. What was read
  // stays. REQUIRES: no update is under way.
  void settle();
  // Lets go of what is on its way of a unit that is not used again before its tiles change, which
  // they now may. Blocks, seldom.
  void forget(UnitId unit);
  // A sweep (a step, an evaluation) begins, or soon will: its first units are sent for.
  void begin_sweep(Sweep sweep);
  // The units in the order in which the training sweep that has just ended used them forward.
  std::vector<UnitId> forward_order() const;

  // How long computing stood still since the last call: for reads, and for updates.
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
    std::shared_ptr<IncomingUnit> weights;  // on their way into `part`
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
  std::uint64_t ahead_bytes_ = 0;  // what may be on its way
  double read_wait_seconds_ = 0;
  double update_wait_seconds_ = 0;
  std::uint64_t peak_bytes_ = 0;
  std::unique_ptr<WeightLoader> loader_;
};

}  // namespace spillway::trainer
