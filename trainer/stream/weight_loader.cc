#include "trainer/stream/weight_loader.h"

#include <spillway/aio/signals.h>
#include <spillway/trainer/failure.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace spillway::trainer {
namespace {

// A read that this thread waits for cannot be made urgent any more. So the loader polls a read that
// nobody needs yet, this often. The drive stays busy meanwhile: other reads are in flight.
constexpr std::chrono::milliseconds kLookEvery{1};

}  // namespace

WeightLoader::WeightLoader(UnitWeights weights, BackgroundUpdate& update)
    : weights_(std::move(weights)),
      update_(&update),
      thread_(aio::thread_without_signals([this] { run(); })) {}

WeightLoader::~WeightLoader() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    for (Job& job : jobs_) job.incoming->abandon();
    changed_.notify_all();
  }
  thread_.join();
}

void WeightLoader::load(UnitId unit, Tiles tiles, std::shared_ptr<IncomingUnit> incoming) {
  const MutexLock lock(mutex_);
  jobs_.push_back({unit, tiles, std::move(incoming)});
  changed_.notify_all();
}

void WeightLoader::settle() {
  MutexLock lock(mutex_);
  while (!jobs_.empty()) changed_.wait(lock);
}

void WeightLoader::settle(UnitId unit) {
  MutexLock lock(mutex_);
  changed_.wait(lock, [&]() SPILLWAY_REQUIRES(mutex_) {
    return std::ranges::find(jobs_, unit, &Job::unit) == jobs_.end();
  });
}

void WeightLoader::run() {
  MutexLock lock(mutex_);
  while (true) {
    while (!stopping_ && jobs_.empty()) changed_.wait(lock);
    if (jobs_.empty()) return;
    const Job job = jobs_.front();
    lock.unlock();
    try {
      if (!job.incoming->abandoned()) fill(job);
    } catch (...) {
      job.incoming->fail(std::current_exception());
    }
    lock.lock();
    jobs_.pop_front();
    changed_.notify_all();
  }
}

void WeightLoader::fill(const Job& job) {
  const UnitWeights::Unit& unit = weights_.units[job.unit];
  if (job.tiles == Tiles::kAll) update_->wait_until_written(job.unit);
  std::vector<std::size_t> moved;
  for (std::size_t i = 0; i < unit.partition->tiles().size(); ++i) {
    if (job.tiles == Tiles::kFrozen && unit.partition->tiles()[i].section != kFrozen) continue;
    const auto tile = static_cast<swapper::TileId>(unit.first_tile + i);
    if (const std::byte* resident = weights_.tier->resident(tile, 0)) {
      job.incoming->put(i, resident);
    } else {
      moved.push_back(i);
    }
  }
  std::deque<Read> reads;
  for (std::size_t next = 0, done = 0; done < moved.size(); ++done) {
    if (job.incoming->abandoned()) break;
    start_reads(job, moved, &next, &reads);
    hurry_when_urgent(*job.incoming, &reads);
    // Off the list first: when its wait throws, it must not be waited for again.
    Read read = std::move(reads.front());
    reads.pop_front();
    const auto lease = value_or_throw(read.transfer.wait());
    job.incoming->put(read.tile, lease.data());
  }
  // Left when abandoned: the tile may be written next, and transfers of one tile do not overtake.
  for (Read& read : reads) static_cast<void>(read.transfer.wait());
}

// Returns when the oldest read need not be waited for, or somebody waits for the unit and all are
// hurried.
void WeightLoader::hurry_when_urgent(IncomingUnit& incoming, std::deque<Read>* reads) {
  while (!incoming.abandoned() && !reads->front().transfer.done()) {
    if (!incoming.urgent_within(kLookEvery)) continue;
    for (Read& read : *reads) read.transfer.expedite();
    return;
  }
}

void WeightLoader::start_reads(const Job& job, const std::vector<std::size_t>& tiles,
                               std::size_t* next, std::deque<Read>* reads) {
  pinned_pool::Pool& pool = *weights_.pool;
  const swapper::TileId first_tile = weights_.units[job.unit].first_tile;
  for (; *next < tiles.size(); ++*next) {
    pinned_pool::Lease lease = reads->empty() ? pool.acquire() : pool.try_acquire();
    if (!lease) return;
    const auto tile = static_cast<swapper::TileId>(first_tile + tiles[*next]);
    const auto priority = job.incoming->urgent() ? aio::Priority::kUrgent : aio::Priority::kNormal;
    reads->push_back({tiles[*next], weights_.tier->read(tile, {.first = 0, .count = 1},
                                                        std::move(lease), priority)});
  }
}

}  // namespace spillway::trainer
