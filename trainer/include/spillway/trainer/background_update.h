// BackgroundUpdate: one update of all tiles, streamed on a thread of its own, unit after unit.
//
// The update in forward order: nobody needs a unit's new weights before its next forward, so the
// update of a unit overlaps with the forward of the units before it, and the weights it has just
// computed are put into the memory that this forward will use: they are not read again. It runs
// ahead of the forward by no more than what it has been given memory for, unless somebody waits
// for a later unit. Nothing here is speculative and no bit depends on when a tile is updated.
//
// start, deliver, the waits and finish: any thread, start only when no update is under way.
#pragma once

#include <spillway/swapper/tile_stream.h>
#include <spillway/trainer/incoming_unit.h>
#include <spillway/trainer/unit.h>

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace spillway::trainer {

struct UpdateItem {
  UnitId unit = 0;
  std::size_t tile = 0;  // of the unit
  swapper::Item parts;   // the first is the weights'
};

class BackgroundUpdate {
 public:
  // `unit_count`: of the model.
  explicit BackgroundUpdate(std::size_t unit_count) : units_(unit_count) {}
  // Ends an update under way after the tile at hand: the states are of no use any more.
  ~BackgroundUpdate();

  // Computes one item (its index in `items`); called on the update's thread.
  using Compute = swapper::TileStream::Compute;
  // Starts updating `items` in their order; a unit's items follow each other. Does not block.
  // `items` must stay as they are until the update is finished.
  void start(const std::vector<UpdateItem>& items, Compute compute);

  // Has the unit's updated weights put into `incoming`, its trainable tiles that is. False when
  // that is too late or there is nothing to update: then they are read, after wait_until_written.
  bool deliver(UnitId unit, std::shared_ptr<IncomingUnit> incoming);
  // Block until the unit's tiles are computed; until they can be read from their tiers; until all
  // are computed. Throw what ended the update.
  void wait_until_computed(UnitId unit);
  void wait_until_written(UnitId unit);
  void wait_until_computed();
  // Blocks until everything is in its tier. Returns what the update took, once; then zeros.
  swapper::StreamStats finish();

 private:
  struct UnitProgress {
    std::size_t position = 0;  // among the units of this update
    std::size_t items = 0;
    std::size_t computed = 0;
    std::size_t written = 0;
    bool begun = false;
    bool read_back = false;  // its weights lie on files: they should be delivered
    std::shared_ptr<IncomingUnit> incoming;
  };

  void run(const std::vector<UpdateItem>& items, const Compute& compute);
  Result<void> compute_item(const UpdateItem& item, const std::function<Result<void>()>& compute,
                            std::span<const swapper::PartView> parts);
  void begin_unit(UnitProgress& unit);
  template <typename Reached>
  void wait_for(const Reached& reached);

  std::mutex mutex_;  // of all below but the thread
  std::condition_variable changed_;
  std::vector<UnitProgress> units_;
  std::vector<swapper::Item> parts_;    // of the items, as the stream wants them
  std::size_t expected_positions_ = 0;  // units before this one have memory to go to
  std::size_t uncomputed_ = 0;          // items
  int waiting_ = 0;                     // threads
  bool running_ = false;
  bool cancelled_ = false;
  double held_back_seconds_ = 0;
  swapper::StreamStats stats_;
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace spillway::trainer
