// WeightLoader: reads units' weights from their tier into memory, on a thread of its own, so that
// neither reading, verifying nor copying them takes the thread that computes.
//
// One unit after the other, in the order of the calls; as many tiles at once as the weight pool has
// buffers. A unit somebody waits for is read with urgency, ahead of what is written behind.
#pragma once

#include "trainer/states/incoming_unit.h"
#include "trainer/states/model_states.h"
#include "trainer/stream/background_update.h"

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

namespace spillway::trainer {

class WeightLoader {
 public:
  // Both must outlive it.
  WeightLoader(ModelStates& states, BackgroundUpdate& update);
  // Abandons what is not loaded yet; waits for what is in flight.
  ~WeightLoader();

  enum class Tiles { kAll, kFrozen };
  // Starts filling `incoming`; what cannot be read is told to it. A unit that is being updated is
  // waited for first. Does not block.
  void load(UnitId unit, Tiles tiles, std::shared_ptr<IncomingUnit> incoming);
  // Block until nothing is loaded any more; nothing of that unit. Soon, where what is under way was
  // abandoned.
  void settle();
  void settle(UnitId unit);

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

  void run();
  void fill(const Job& job);
  // Starts reads of `tiles`, from `next` on, while buffers are free.
  void start_reads(const Job& job, const std::vector<std::size_t>& tiles, std::size_t* next,
                   std::deque<Read>* reads);
  static void hurry_when_urgent(IncomingUnit& incoming, std::deque<Read>* reads);

  ModelStates* states_;
  BackgroundUpdate* update_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;  // under mutex_; the first is at work until it is done
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace spillway::trainer
