#include "trainer/stream/background_update.h"
#include <spillway/aio/check.h>
#include <spillway/trainer/failure.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

namespace spillway::trainer {
namespace {

// The weights of such a tile are read from a file (or must be copied off a device) when needed.
bool moved(const swapper::Part& weights) {
  return weights.tier->resident(weights.tile, weights.planes.first) == nullptr;
}

}  // namespace

BackgroundUpdate::BackgroundUpdate(std::vector<UpdateItem> items, std::size_t unit_count)
    : items_(std::move(items)), progress_(items_.size()), units_(unit_count) {
  for (std::size_t i = 0; i < items_.size(); ++i) {
    UnitProgress& unit = units_[items_[i].unit];
    SPILLWAY_CHECK(unit.items == 0 || items_[i].unit == items_[i - 1].unit,
                   "a unit's items are together");
    ++unit.items;
  }
}

BackgroundUpdate::~BackgroundUpdate() {
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

// REQUIRES: mutex_ is held.
void BackgroundUpdate::begin_step(Phase phase, Compute compute, const std::vector<UnitId>& order) {
  if (failure_) std::rethrow_exception(failure_);
  SPILLWAY_CHECK(uncomputed_ == 0, "an update is computed before the next one starts");
  // Before all else: where no thread can be made, nobody shall wait for what it does.
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  for (ItemProgress& item : progress_) {
    item = {.writing = item.writing};  // of the step before
  }
  for (UnitProgress& unit : units_) {
    unit.computed = 0;
    unit.begun = unit.final = unit.read_back = false;
    unit.incoming.reset();
  }
  for (const UpdateItem& item : items_) {
    if (moved(item.parts[0])) units_[item.unit].read_back = true;
  }
  uncomputed_ = items_.size();
  phase_ = phase;
  compute_ = std::make_shared<const Compute>(std::move(compute));
  order_items(order);
  expected_positions_ = 0;
}

void BackgroundUpdate::start_ahead(Compute compute, const std::vector<UnitId>& order) {
  const std::lock_guard lock(mutex_);
  SPILLWAY_CHECK(phase_ != Phase::kAhead, "an update ahead of the norm is under way");
  begin_step(Phase::kAhead, std::move(compute), order);
  std::erase_if(order_, [&](std::size_t i) { return !items_[i].may_go_ahead; });
  changed_.notify_all();
}

BackgroundUpdate::AheadTiles BackgroundUpdate::start(Compute compute,
                                                     const std::vector<UnitId>& order,
                                                     Ahead ahead) {
  const std::lock_guard lock(mutex_);
  if (phase_ != Phase::kAhead) {
    begin_step(Phase::kForward, std::move(compute), order);
    changed_.notify_all();
    return {};
  }
  if (failure_) std::rethrow_exception(failure_);
  phase_ = Phase::kForward;
  compute_ = std::make_shared<const Compute>(std::move(compute));
  order_items(order);
  if (ahead == Ahead::kTakeBack) {
    for (UnitProgress& unit : units_) unit.begun = false;
  }
  std::size_t settled = 0;
  for (std::size_t i = 0; i < items_.size(); ++i) settled += settle(i, ahead) ? 1 : 0;
  changed_.notify_all();
  return ahead == Ahead::kKeep ? AheadTiles{.kept = settled} : AheadTiles{.taken_back = settled};
}

void BackgroundUpdate::unit_final(UnitId unit) {
  const std::lock_guard lock(mutex_);
  units_[unit].final = true;
  changed_.notify_all();
}

void BackgroundUpdate::take_back() {
  {
    const std::lock_guard lock(mutex_);
    if (phase_ != Phase::kAhead) return;
    cancelled_ = true;
    changed_.notify_all();
  }
  thread_.join();
  thread_ = {};
  const std::lock_guard lock(mutex_);
  cancelled_ = false;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (progress_[i].ahead != Decision::kNone) progress_[i].ahead = Decision::kTakeBack;
    end_generations(i);
    progress_[i] = {};
  }
  for (UnitProgress& unit : units_) unit.computed = unit.writing = 0;
  phase_ = Phase::kIdle;
  uncomputed_ = 0;
  idle_ = true;
  so_far_ = reported_ = {};  // the next thread's stream counts from 0
}

// What was kept of the item when it was computed ahead is dropped or restored, now or as soon as it
// is written. False when it was not. REQUIRES: mutex_ is held.
bool BackgroundUpdate::settle(std::size_t number, Ahead ahead) {
  ItemProgress& item = progress_[number];
  if (item.ahead != Decision::kOpen) return false;
  item.ahead = ahead == Ahead::kKeep ? Decision::kKeep : Decision::kTakeBack;
  if (ahead == Ahead::kTakeBack && std::exchange(item.computed, false)) {
    --units_[items_[number].unit].computed;
    ++uncomputed_;
  }
  if (!item.writing) end_generations(number);
  return true;
}

// REQUIRES: mutex_ is held; the item is written, and decided on.
void BackgroundUpdate::end_generations(std::size_t number) {
  ItemProgress& item = progress_[number];
  const Decision decision = std::exchange(item.ahead, Decision::kNone);
  if (decision == Decision::kNone) return;
  for (const swapper::Part& part : items_[number].parts) {
    if (part.access == swapper::Access::kRead) continue;
    if (decision == Decision::kKeep) {
      part.tier->drop_kept(part.tile);
    } else {
      part.tier->roll_back(part.tile);
    }
  }
  if (decision != Decision::kTakeBack) return;
  item.named = false;
  next_ = 0;
}

// REQUIRES: mutex_ is held.
void BackgroundUpdate::order_items(const std::vector<UnitId>& order) {
  for (UnitProgress& unit : units_) unit.position = order.size();
  for (std::size_t i = order.size(); i-- > 0;) units_[order[i]].position = i;
  order_.resize(items_.size());
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  std::stable_sort(order_.begin(), order_.end(), [&](std::size_t a, std::size_t b) {
    return units_[items_[a].unit].position < units_[items_[b].unit].position;
  });
  next_ = 0;
}

// REQUIRES: mutex_ is held.
std::optional<std::size_t> BackgroundUpdate::name_next() {
  if (phase_ == Phase::kIdle || cancelled_) return std::nullopt;
  while (next_ < order_.size() && progress_[order_[next_]].named) ++next_;
  if (next_ == order_.size()) return std::nullopt;
  ItemProgress& item = progress_[order_[next_]];
  if (item.writing) return std::nullopt;  // its bytes of the step before are still on their way
  item.named = true;
  return order_[next_];
}

std::optional<std::size_t> BackgroundUpdate::next(bool wait, const swapper::StreamStats& so_far) {
  std::unique_lock lock(mutex_);
  so_far_ = so_far;
  std::optional<std::size_t> named = name_next();
  if (wait && !named) {
    idle_ = true;
    changed_.notify_all();
    changed_.wait(lock, [&] { return cancelled_ || (named = name_next()); });
  }
  if (named) idle_ = false;
  return named;
}

void BackgroundUpdate::run() {
  std::exception_ptr failure;
  try {
    const auto compute = [&](std::size_t i, auto parts) { return compute_item(i, parts); };
    auto updated = swapper::TileStream::run(*this, compute, [&](std::size_t i) { written(i); });
    if (!updated && updated.error().kind == ErrorKind::kCancelled) throw Interrupted();
    value_or_throw(std::move(updated));
  } catch (...) {
    failure = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  idle_ = true;
  if (!cancelled_) failure_ = failure;
  for (UnitProgress& unit : units_) {
    if (failure && unit.incoming) unit.incoming->fail(failure);
    unit.incoming.reset();
  }
  changed_.notify_all();
}

// REQUIRES: mutex_ is held.
bool BackgroundUpdate::may_compute(std::size_t number) const {
  const UnitProgress& unit = units_[items_[number].unit];
  if (phase_ == Phase::kAhead) return unit.final;
  if (waiting_ > 0 || !unit.read_back || unit.begun || unit.position < expected_positions_) {
    return true;
  }
  // Items are computed in the order in which they were named: one that was named ahead of the norm,
  // or before others were taken back, must not be in the way of what somebody has memory for.
  return std::ranges::any_of(units_, [&](const UnitProgress& other) {
    return other.position < expected_positions_ && other.computed < other.items;
  });
}

bool BackgroundUpdate::ready(std::size_t number, bool wait) {
  std::unique_lock lock(mutex_);
  if (wait) changed_.wait(lock, [&] { return cancelled_ || may_compute(number); });
  return cancelled_ || may_compute(number);
}

Result<void> BackgroundUpdate::compute_item(std::size_t number,
                                            std::span<const swapper::PartView> parts) {
  ItemProgress& item = progress_[number];
  UnitProgress& unit = units_[items_[number].unit];
  std::shared_ptr<const Compute> compute;
  std::shared_ptr<IncomingUnit> incoming;
  bool ahead = false;
  {
    const std::lock_guard lock(mutex_);
    if (cancelled_) return make_error(ErrorKind::kCancelled, "update", "", "its engine is gone");
    unit.begun = item.writing = true;
    ++unit.writing;
    ahead = phase_ == Phase::kAhead;
    if (ahead) item.ahead = Decision::kOpen;
    compute = compute_;
    incoming = unit.incoming;
  }
  if (ahead) {
    if (auto kept = keep_generations(number); !kept) return kept;
  }
  if (auto computed = (*compute)(number, parts); !computed) return computed;
  if (incoming) incoming->put(items_[number].tile, parts[0].plane(0));
  const std::lock_guard lock(mutex_);
  if (item.ahead == Decision::kTakeBack) return {};  // to be computed again
  item.computed = true;
  --uncomputed_;
  if (++unit.computed == unit.items || uncomputed_ == 0) changed_.notify_all();
  return {};
}

// All or none.
Result<void> BackgroundUpdate::keep_generations(std::size_t number) {
  std::vector<const swapper::Part*> kept;
  for (const swapper::Part& part : items_[number].parts) {
    if (part.access == swapper::Access::kRead) continue;
    auto generation = part.tier->keep_generation(part.tile);
    if (generation) {
      kept.push_back(&part);
      continue;
    }
    for (const swapper::Part* one : kept) one->tier->drop_kept(one->tile);
    const std::lock_guard lock(mutex_);
    progress_[number].ahead = Decision::kNone;
    return generation;
  }
  return {};
}

void BackgroundUpdate::written(std::size_t number) {
  const std::lock_guard lock(mutex_);
  ItemProgress& item = progress_[number];
  UnitProgress& unit = units_[items_[number].unit];
  item.writing = false;
  if (item.ahead != Decision::kOpen) end_generations(number);
  if (--unit.writing == 0) changed_.notify_all();
}

bool BackgroundUpdate::deliver(UnitId id, std::shared_ptr<IncomingUnit> incoming) {
  const std::lock_guard lock(mutex_);
  UnitProgress& unit = units_[id];
  if (phase_ != Phase::kForward || failure_ || unit.begun || unit.items == 0) return false;
  unit.incoming = std::move(incoming);
  expected_positions_ = std::max(expected_positions_, unit.position + 1);
  changed_.notify_all();
  return true;
}

// While somebody waits, the update is not held back.
template <typename Reached>
void BackgroundUpdate::wait_for(const Reached& reached) {
  std::unique_lock lock(mutex_);
  ++waiting_;
  changed_.notify_all();
  changed_.wait(lock, [&] { return failure_ || reached(); });
  --waiting_;
  if (failure_) std::rethrow_exception(failure_);
}

void BackgroundUpdate::wait_until_written(UnitId id) {
  const UnitProgress& unit = units_[id];
  bool used_again = false;
  wait_for([&] {
    used_again = phase_ == Phase::kAhead && unit.begun;
    const bool updated = phase_ != Phase::kForward || unit.computed == unit.items;
    return used_again || (updated && unit.writing == 0);
  });
  if (!used_again) return;
  throw Failure(make_error(ErrorKind::kInvalid, "read weights", "",
                           "a unit is used after its gradient was final; use "
                           "offload_optimizer.update_order forward")
                    .value());
}

void BackgroundUpdate::wait_until_computed() {
  wait_for([&] { return uncomputed_ == 0; });
}

swapper::StreamStats BackgroundUpdate::finish() {
  wait_for([&] { return uncomputed_ == 0 && idle_; });
  {
    const std::lock_guard lock(mutex_);
    SPILLWAY_CHECK(phase_ != Phase::kAhead, "an update ahead of the norm is decided on first");
    phase_ = Phase::kIdle;
  }
  return take_stats();
}

swapper::StreamStats BackgroundUpdate::take_stats() {
  const std::lock_guard lock(mutex_);
  const swapper::StreamStats before = std::exchange(reported_, so_far_);
  return {.seconds = reported_.seconds - before.seconds,
          .compute_seconds = reported_.compute_seconds - before.compute_seconds,
          .read_wait_seconds = reported_.read_wait_seconds - before.read_wait_seconds,
          .write_wait_seconds = reported_.write_wait_seconds - before.write_wait_seconds,
          .drive_idle_seconds = reported_.drive_idle_seconds - before.drive_idle_seconds};
}

}  // namespace spillway::trainer
