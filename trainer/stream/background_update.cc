#include "trainer/stream/background_update.h"
#include <spillway/aio/check.h>
#include <spillway/aio/signals.h>
#include <spillway/trainer/failure.h>

#include <utility>

namespace spillway::trainer {
namespace {

// The weights of such a tile are read from a file (or must be copied off a device) when needed.
bool moved(const swapper::Part& weights) {
  return weights.tier->resident(weights.tile, weights.planes.first) == nullptr;
}

UpdatePlan plan_of(const std::vector<UpdateItem>& items, std::size_t unit_count) {
  std::vector<UpdatePlan::Item> planned;
  for (const UpdateItem& item : items) planned.push_back({item.unit, item.may_speculate});
  return {std::move(planned), unit_count};
}

}  // namespace

BackgroundUpdate::BackgroundUpdate(std::vector<UpdateItem> items, std::size_t unit_count)
    : items_(std::move(items)),
      unit_count_(unit_count),
      plan_(plan_of(items_, unit_count)),
      incoming_(unit_count) {}

BackgroundUpdate::~BackgroundUpdate() {
  {
    const MutexLock lock(mutex_);
    cancelled_ = true;
    wake();
  }
  if (thread_.joinable()) thread_.join();
}

// After every change that the update's thread, or who waits for it, may wait for.
void BackgroundUpdate::wake() {
  held_back_ = false;
  changed_.notify_all();
}

// The update's thread waits for a change.
void BackgroundUpdate::hold_back(MutexLock& lock) {
  held_back_ = true;
  changed_.notify_all();
  changed_.wait(lock);
}

std::vector<bool> BackgroundUpdate::units_read_back() const {
  std::vector<bool> read_back(unit_count_);
  for (const UpdateItem& item : items_) {
    if (moved(item.parts[0])) read_back[item.unit] = true;
  }
  return read_back;
}

void BackgroundUpdate::begin_step(Compute compute) {
  if (failure_) std::rethrow_exception(failure_);
  // Before all else: where no thread can be made, nobody shall wait for what it does.
  if (!thread_.joinable()) thread_ = aio::thread_without_signals([this] { run(); });
  for (auto& incoming : incoming_) incoming.reset();
  compute_ = std::make_shared<const Compute>(std::move(compute));
  wake();
}

void BackgroundUpdate::start_speculative(Compute compute, const std::vector<UnitId>& order) {
  const MutexLock lock(mutex_);
  begin_step(std::move(compute));
  plan_.start_speculative(order, units_read_back());
}

BackgroundUpdate::SpeculativeTiles BackgroundUpdate::start(Compute compute,
                                                           const std::vector<UnitId>& order,
                                                           Verdict verdict) {
  const MutexLock lock(mutex_);
  begin_step(std::move(compute));
  if (!plan_.speculative()) {
    plan_.start(order, units_read_back());
    return {};
  }
  const UpdatePlan::Decided decided = plan_.decide(order, verdict);
  for (const UpdatePlan::Ending& ending : decided.endings) end_generations(ending);
  return verdict == Verdict::kKeep ? SpeculativeTiles{.kept = decided.items}
                                   : SpeculativeTiles{.rolled_back = decided.items};
}

void BackgroundUpdate::unit_final(UnitId unit) {
  const MutexLock lock(mutex_);
  plan_.set_final(unit);
  wake();
}

void BackgroundUpdate::roll_back() {
  {
    const MutexLock lock(mutex_);
    if (!plan_.speculative()) return;
    cancelled_ = true;
    wake();
  }
  thread_.join();
  thread_ = {};
  const MutexLock lock(mutex_);
  cancelled_ = false;
  for (const UpdatePlan::Ending& ending : plan_.give_up()) end_generations(ending);
  idle_ = true;
  so_far_ = reported_ = {};  // the next thread's stream counts from 0
}

void BackgroundUpdate::end_generations(const UpdatePlan::Ending& ending) {
  for (const swapper::Part& part : items_[ending.item].parts) {
    if (part.access == swapper::Access::kRead) continue;
    if (ending.verdict == Verdict::kKeep) {
      part.tier->drop_kept(part.tile);
    } else {
      part.tier->roll_back(part.tile);
    }
  }
}

std::optional<std::size_t> BackgroundUpdate::next(bool wait, const swapper::StreamStats& so_far) {
  MutexLock lock(mutex_);
  so_far_ = so_far;
  std::optional<std::size_t> named;
  if (!cancelled_) named = plan_.name_next();
  if (wait && !named) idle_ = true;
  while (wait && !cancelled_ && !named) {
    hold_back(lock);
    if (!cancelled_) named = plan_.name_next();
  }
  if (named) idle_ = false;
  return named;
}

bool BackgroundUpdate::ready(std::size_t number, bool wait) {
  MutexLock lock(mutex_);
  while (!cancelled_ && !plan_.may_compute(number, waiting_ > 0)) {
    if (!wait) return false;
    hold_back(lock);
  }
  return true;
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
  const MutexLock lock(mutex_);
  idle_ = true;
  if (!cancelled_) failure_ = failure;
  for (auto& incoming : incoming_) {
    if (failure && incoming) incoming->fail(failure);
    incoming.reset();
  }
  wake();
}

Result<void> BackgroundUpdate::compute_item(std::size_t number,
                                            std::span<const swapper::PartView> parts) {
  std::shared_ptr<const Compute> compute;
  std::shared_ptr<IncomingUnit> incoming;
  bool keeps_generation = false;
  {
    const MutexLock lock(mutex_);
    if (cancelled_) return make_error(ErrorKind::kCancelled, "update", "", "its engine is gone");
    keeps_generation = plan_.begin_compute(number);
    compute = compute_;
    incoming = incoming_[items_[number].unit];
  }
  if (keeps_generation) {
    if (auto kept = keep_generations(number); !kept) return kept;
  }
  if (auto computed = (*compute)(number, parts); !computed) return computed;
  if (incoming) incoming->put(items_[number].tile, parts[0].plane(0));
  const MutexLock lock(mutex_);
  if (plan_.set_computed(number)) wake();
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
    const MutexLock lock(mutex_);
    plan_.set_not_kept(number);
    return generation;
  }
  return {};
}

void BackgroundUpdate::written(std::size_t number) {
  const MutexLock lock(mutex_);
  if (const auto ending = plan_.set_written(number)) end_generations(*ending);
  if (plan_.unit_written(items_[number].unit)) wake();
}

bool BackgroundUpdate::deliver(UnitId unit, std::shared_ptr<IncomingUnit> incoming) {
  const MutexLock lock(mutex_);
  if (failure_ || !plan_.expect_delivery(unit)) return false;
  incoming_[unit] = std::move(incoming);
  wake();
  return true;
}

// While a thread waits, the update is not held back.
void BackgroundUpdate::wait_until_written(UnitId unit) {
  using Readable = UpdatePlan::Readable;
  Readable readable = Readable::kNotYet;
  {
    MutexLock lock(mutex_);
    ++waiting_;
    wake();
    while (!failure_ && (readable = plan_.readable(unit)) == Readable::kNotYet) changed_.wait(lock);
    --waiting_;
    if (failure_) std::rethrow_exception(failure_);
  }
  if (readable == Readable::kNow) return;
  throw Failure(make_error(ErrorKind::kInvalid, "read weights", "",
                           "a unit is used after its gradient was final; use "
                           "offload_optimizer.update_order forward")
                    .value());
}

void BackgroundUpdate::wait_until_computed() {
  MutexLock lock(mutex_);
  ++waiting_;
  wake();
  while (!failure_ && !plan_.all_computed()) changed_.wait(lock);
  --waiting_;
  if (failure_) std::rethrow_exception(failure_);
}

swapper::StreamStats BackgroundUpdate::finish() {
  {
    MutexLock lock(mutex_);
    ++waiting_;
    wake();
    while (!failure_ && !(plan_.all_computed() && idle_)) changed_.wait(lock);
    --waiting_;
    if (failure_) std::rethrow_exception(failure_);
    plan_.finish();
  }
  return take_stats();
}

void BackgroundUpdate::wait_until_held_back() {
  MutexLock lock(mutex_);
  while (!held_back_) changed_.wait(lock);
}

swapper::StreamStats BackgroundUpdate::take_stats() {
  const MutexLock lock(mutex_);
  const swapper::StreamStats before = std::exchange(reported_, so_far_);
  return {.seconds = reported_.seconds - before.seconds,
          .compute_seconds = reported_.compute_seconds - before.compute_seconds,
          .read_wait_seconds = reported_.read_wait_seconds - before.read_wait_seconds,
          .write_wait_seconds = reported_.write_wait_seconds - before.write_wait_seconds,
          .drive_idle_seconds = reported_.drive_idle_seconds - before.drive_idle_seconds};
}

}  // namespace spillway::trainer
