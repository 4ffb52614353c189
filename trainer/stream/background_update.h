// BackgroundUpdate: the update of all tiles, step after step, streamed on its own thread.
//
// UpdatePlan decides, this class does it: reads, computes, writes, keeps generations, delivers.
// The update overlaps with the forward pass: the new weights of a unit are copied straight into the
// memory that this pass will use, and are not read again. `start_speculative` overlaps it with
// backward, too; `start` then keeps or rolls back, bit for bit. So no bit depends on when a tile
// is updated.
//
// Threads: one thread calls start_speculative, start, roll_back and finish. Any thread may call
// the others.
#pragma once

#include <spillway/aio/mutex.h>
#include <spillway/swapper/tile_stream.h>
#include <spillway/trainer/unit_id.h>
#include "trainer/states/incoming_unit.h"
#include "trainer/stream/update_plan.h"

#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <vector>

namespace spillway::trainer {

struct UpdateItem {
  UnitId unit = 0;
  std::size_t tile = 0;        // of the unit
  swapper::Item parts;         // the first is the weights'
  bool may_speculate = false;  // the tiles of all parts that are written keep generations
};

class BackgroundUpdate final : private swapper::TileStream::Source {
 public:
  // `items`: what each step updates, the items of a unit together. `unit_count`: of the model.
  BackgroundUpdate(std::vector<UpdateItem> items, std::size_t unit_count);
  // Ends an update in progress after the current tile: then the states are of no use any more.
  ~BackgroundUpdate() override;

  // Computes one item, by its index. The thread of the update calls it.
  using Compute = swapper::TileStream::Compute;
  // Starts a step before its norm is known: updates each unit once its gradient is final, in the
  // expected `order`. Does not block. Throws the error that ended an earlier update.
  // REQUIRES, here and for `start`: the step before is computed.
  void start_speculative(Compute compute, const std::vector<UnitId>& order)
      SPILLWAY_EXCLUDES(mutex_);
  // The gradient of the unit is final, and nothing reads its weights before they are updated.
  void unit_final(UnitId unit) SPILLWAY_EXCLUDES(mutex_);
  struct SpeculativeTiles {
    std::size_t kept = 0;
    std::size_t rolled_back = 0;
  };
  // Updates the units that are not updated yet: those in `order` first, then the others. `verdict`:
  // on the speculative updates. Does not block. Throws the error that ended an earlier update.
  SpeculativeTiles start(Compute compute, const std::vector<UnitId>& order,
                         Verdict verdict = Verdict::kKeep) SPILLWAY_EXCLUDES(mutex_);
  // Ends a speculative update, if there is one, with no tile updated. Blocks.
  void roll_back() SPILLWAY_EXCLUDES(mutex_);

  // Asks the update to copy the unit's new trainable tiles into `incoming`. False if it has already
  // begun the unit or has no tiles of it: then wait_until_written, and read them.
  bool deliver(UnitId unit, std::shared_ptr<IncomingUnit> incoming) SPILLWAY_EXCLUDES(mutex_);
  // Block until the unit can be read from its tiers (updated; unchanged during a speculative
  // update), or until all items are computed. Throw the error that ended the update, and Failure
  // for a unit that was final and is used again.
  void wait_until_written(UnitId unit) SPILLWAY_EXCLUDES(mutex_);
  void wait_until_computed() SPILLWAY_EXCLUDES(mutex_);
  // Blocks until everything is in its tier. Returns as take_stats.
  swapper::StreamStats finish() SPILLWAY_EXCLUDES(mutex_);
  // Returns the time that updates took since the last call. Does not block.
  swapper::StreamStats take_stats() SPILLWAY_EXCLUDES(mutex_);
  // Blocks until the update can do no more before another call (of deliver, unit_final, start).
  void wait_until_held_back() SPILLWAY_EXCLUDES(mutex_);

 private:
  std::optional<std::size_t> next(bool wait, const swapper::StreamStats& so_far) override
      SPILLWAY_EXCLUDES(mutex_);
  bool ready(std::size_t number, bool wait) override SPILLWAY_EXCLUDES(mutex_);
  const swapper::Item& item(std::size_t number) const override { return items_[number].parts; }

  void run() SPILLWAY_EXCLUDES(mutex_);
  void begin_step(Compute compute) SPILLWAY_REQUIRES(mutex_);
  std::vector<bool> units_read_back() const;
  void wake() SPILLWAY_REQUIRES(mutex_);
  void hold_back(MutexLock& lock) SPILLWAY_REQUIRES(mutex_);
  Result<void> compute_item(std::size_t number, std::span<const swapper::PartView> parts)
      SPILLWAY_EXCLUDES(mutex_);
  Result<void> keep_generations(std::size_t number) SPILLWAY_EXCLUDES(mutex_);
  void written(std::size_t number) SPILLWAY_EXCLUDES(mutex_);
  void end_generations(const UpdatePlan::Ending& ending) SPILLWAY_REQUIRES(mutex_);

  const std::vector<UpdateItem> items_;
  const std::size_t unit_count_;
  Mutex mutex_;
  CondVar changed_;
  UpdatePlan plan_ SPILLWAY_GUARDED_BY(mutex_);
  std::shared_ptr<const Compute> compute_ SPILLWAY_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<IncomingUnit>> incoming_ SPILLWAY_GUARDED_BY(mutex_);  // by unit
  int waiting_ SPILLWAY_GUARDED_BY(mutex_) = 0;                                      // threads
  bool idle_ SPILLWAY_GUARDED_BY(mutex_) = true;        // nothing is read, computed or written
  bool held_back_ SPILLWAY_GUARDED_BY(mutex_) = false;  // the thread waits for another call
  bool cancelled_ SPILLWAY_GUARDED_BY(mutex_) = false;
  swapper::StreamStats so_far_ SPILLWAY_GUARDED_BY(mutex_);
  swapper::StreamStats reported_ SPILLWAY_GUARDED_BY(mutex_);
  std::exception_ptr failure_ SPILLWAY_GUARDED_BY(mutex_);
  std::thread thread_;  // of the caller of start
};

}  // namespace spillway::trainer
