// WeightLoader: reads the weights of units from their tier into memory, on its own thread.
//
// So reading, verifying and copying take no time of the thread that computes. Units are loaded one
// after the other, in the order of the calls. As many tiles are read at once as the pool has
// buffers. If a thread waits for a unit, its reads become urgent and pass the writes in the queue.
#pragma once

#include <spillway/aio/mutex.h>
#include <spillway/pinned_pool/pool.h>
#include <spillway/swapper/tier.h>
#include "trainer/states/incoming_unit.h"
#include "trainer/stream/background_update.h"

#include <deque>
#include <memory>
#include <thread>
#include <vector>

namespace spillway::trainer {

// Where the weights of a model's units lie. What it points to must outlive the WeightLoader.
struct UnitWeights {
  struct Unit {
    const UnitPartition* partition = nullptr;
    swapper::TileId first_tile = 0;  // its tiles follow each other
  };
  swapper::Tier* tier = nullptr;
  pinned_pool::Pool* pool = nullptr;  // may be null if all tiles are resident
  std::vector<Unit> units;
};

class WeightLoader {
 public:
  // `update` must outlive it.
  WeightLoader(UnitWeights weights, BackgroundUpdate& update);
  // Abandons the units that are not loaded yet. Blocks until reads in flight have ended.
  ~WeightLoader();

  enum class Tiles { kAll, kFrozen };
  // Starts to fill `incoming`, after the update of the unit. Reports a failed read to `incoming`.
  // Does not block.
  void load(UnitId unit, Tiles tiles, std::shared_ptr<IncomingUnit> incoming)
      SPILLWAY_EXCLUDES(mutex_);
  // Block until nothing is being loaded, or nothing of that unit. Soon, if it was abandoned.
  void settle() SPILLWAY_EXCLUDES(mutex_);
  void settle(UnitId unit) SPILLWAY_EXCLUDES(mutex_);

 private:
  struct Job {
    UnitId unit = 0;
    Tiles tiles = Tiles::kAll;
    std::shared_ptr<IncomingUnit> incoming;
  };
  struct Read {
    std::size_t tile = 0;  // of the unit
    swapper::Transfer transfer;
  };

  void run() SPILLWAY_EXCLUDES(mutex_);
  void fill(const Job& job);
  // Starts reads of `tiles`, from `next` on, while buffers are free.
  void start_reads(const Job& job, const std::vector<std::size_t>& tiles, std::size_t* next,
                   std::deque<Read>* reads);
  static void hurry_when_urgent(IncomingUnit& incoming, std::deque<Read>* reads);

  const UnitWeights weights_;
  BackgroundUpdate* update_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Job> jobs_ SPILLWAY_GUARDED_BY(mutex_);  // the first is at work until it is done
  bool stopping_ SPILLWAY_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace spillway::trainer
