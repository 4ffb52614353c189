// BackgroundUpdate: the update of all tiles, step after step, streamed on a thread of its own.
//
// In forward order: nobody needs a unit's new weights before its next forward, so the update of a
// unit overlaps with the forward of the units before it, and the weights it has just computed are
// put into the memory that this forward will use: they are not read again. It runs ahead of the
// forward by no more than what it has been given memory for, unless somebody waits for a later
// unit.
// Ahead, during backward: a unit whose gradient is final is updated at once, as if nothing were to
// be clipped, and the tiles' bytes from before are kept. When the norm is known, `start` keeps what
// was done, or takes it all back, and the rest follows in forward order. So no bit depends on when
// a tile is updated.
//
// deliver, unit_final, the waits: any thread. start_ahead, start, take_back, finish: one.
#pragma once

#include <spillway/swapper/tile_stream.h>
#include <spillway/trainer/unit.h>
#include "trainer/states/incoming_unit.h"

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

namespace spillway::trainer {

struct UpdateItem {
  UnitId unit = 0;
  std::size_t tile = 0;       // of the unit
  swapper::Item parts;        // the first is the weights'
  bool may_go_ahead = false;  // the tiles of all parts that are written keep generations
};

class BackgroundUpdate final : private swapper::TileStream::Source {
 public:
  // `items`: what each step updates, a unit's together. `unit_count`: of the model.
  BackgroundUpdate(std::vector<UpdateItem> items, std::size_t unit_count);
  // Ends an update under way after the tile at hand: the states are of no use any more.
  ~BackgroundUpdate() override;

  // Computes one item (its index); called on the update's thread.
  using Compute = swapper::TileStream::Compute;
  // Begins a step's update ahead of its norm, the units in the order in which they are expected to
  // become final, each once it is. REQUIRES, here and for start: what the step before has to
  // compute is computed. Does not block. Throws what ended the update before.
  void start_ahead(Compute compute, const std::vector<UnitId>& order);
  // The unit's gradient is final, and nothing reads its weights until they are updated.
  void unit_final(UnitId unit);
  // What was computed ahead of the norm is what it should be, or it is not.
  enum class Ahead { kKeep, kTakeBack };
  struct AheadTiles {
    std::size_t kept = 0;
    std::size_t taken_back = 0;
  };
  // Updates the units that were not updated ahead: those in `order` first, the others after them.
  // Does not block. Throws what ended the update before. Returns what was done ahead.
  AheadTiles start(Compute compute, const std::vector<UnitId>& order, Ahead ahead = Ahead::kKeep);
  // Ends an update ahead of the norm: no tile is updated. Blocks. Nothing when there is none.
  void take_back();

  // Has the unit's updated weights put into `incoming`, its trainable tiles that is. False when
  // that is too late or there is nothing to update: then they are read, after wait_until_written.
  bool deliver(UnitId unit, std::shared_ptr<IncomingUnit> incoming);
  // Block until the unit's tiles can be read from their tiers: updated, but as they were before
  // the step while it goes ahead of the norm; until all are computed. Throw what ended the update,
  // and Failure for a unit that was final and is used again.
  void wait_until_written(UnitId unit);
  void wait_until_computed();
  // Blocks until everything is in its tier. Returns as take_stats.
  swapper::StreamStats finish();
  // What updates took since the last call. Does not block.
  swapper::StreamStats take_stats();

 private:
  enum class Phase { kIdle, kAhead, kForward };
  enum class Decision { kNone, kOpen, kKeep, kTakeBack };  // kNone: nothing was kept
  struct ItemProgress {
    bool named = false;     // to the stream, in this step
    bool writing = false;   // computed just now, or on its way to the tiers
    bool computed = false;  // in this step, for good
    Decision ahead = Decision::kNone;
  };
  struct UnitProgress {
    std::size_t position = 0;  // in forward order
    std::size_t items = 0;
    std::size_t computed = 0;
    std::size_t writing = 0;
    bool begun = false;
    bool final = false;
    bool read_back = false;  // its weights lie on files: they should be delivered
    std::shared_ptr<IncomingUnit> incoming;
  };

  std::optional<std::size_t> next(bool wait, const swapper::StreamStats& so_far) override;
  bool ready(std::size_t number, bool wait) override;
  const swapper::Item& item(std::size_t number) const override { return items_[number].parts; }

  void run();
  void begin_step(Phase phase, Compute compute, const std::vector<UnitId>& order);
  void order_items(const std::vector<UnitId>& order);
  std::optional<std::size_t> name_next();
  bool may_compute(std::size_t number) const;
  Result<void> compute_item(std::size_t number, std::span<const swapper::PartView> parts);
  Result<void> keep_generations(std::size_t number);
  void written(std::size_t number);
  bool settle(std::size_t number, Ahead ahead);
  void end_generations(std::size_t number);
  template <typename Reached>
  void wait_for(const Reached& reached);

  const std::vector<UpdateItem> items_;
  std::mutex mutex_;  // of all below but the thread
  std::condition_variable changed_;
  Phase phase_ = Phase::kIdle;
  std::shared_ptr<const Compute> compute_;
  std::vector<ItemProgress> progress_;  // of each item
  std::vector<UnitProgress> units_;
  std::vector<std::size_t> order_;      // items, as they are to be named
  std::size_t next_ = 0;                // in order_
  std::size_t expected_positions_ = 0;  // units before this one have memory to go to
  std::size_t uncomputed_ = 0;          // items
  int waiting_ = 0;                     // threads
  bool idle_ = true;                    // nothing is read, computed or written
  bool cancelled_ = false;
  swapper::StreamStats so_far_;
  swapper::StreamStats reported_;
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace spillway::trainer
