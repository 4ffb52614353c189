#include <spillway/aio/check.h>
#include <spillway/trainer/background_update.h>
#include <spillway/trainer/failure.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace spillway::trainer {
namespace {

// The weights of such a tile are read from a file (or must be copied off a device) when needed.
bool moved(const swapper::Part& weights) {
  return weights.tier->resident(weights.tile, weights.planes.first) == nullptr;
}

}  // namespace

BackgroundUpdate::~BackgroundUpdate() {
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void BackgroundUpdate::start(const std::vector<UpdateItem>& items, Compute compute) {
  const std::lock_guard lock(mutex_);
  SPILLWAY_CHECK(!thread_.joinable(), "an update is finished before the next one starts");
  units_.assign(units_.size(), {});
  parts_.clear();
  std::size_t position = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    UnitProgress& unit = units_[items[i].unit];
    if (i > 0 && items[i].unit != items[i - 1].unit) ++position;
    SPILLWAY_CHECK(unit.items == 0 || unit.position == position, "a unit's items are together");
    unit.position = position;
    ++unit.items;
    unit.read_back = unit.read_back || moved(items[i].parts[0]);
    parts_.push_back(items[i].parts);
  }
  expected_positions_ = 0;
  uncomputed_ = items.size();
  held_back_seconds_ = 0;
  stats_ = {};
  failure_ = nullptr;
  thread_ = std::thread([this, &items, compute = std::move(compute)] { run(items, compute); });
  running_ = true;  // only now: where no thread could be made, nobody shall wait for it
}

void BackgroundUpdate::run(const std::vector<UpdateItem>& items, const Compute& compute) {
  std::exception_ptr failure;
  swapper::StreamStats stats;
  try {
    const auto one = [&](std::size_t i, std::span<const swapper::PartView> parts) {
      return compute_item(
          items[i], [&] { return compute(i, parts); }, parts);
    };
    const auto written = [&](std::size_t i) {
      const std::lock_guard lock(mutex_);
      UnitProgress& unit = units_[items[i].unit];
      if (++unit.written == unit.items) changed_.notify_all();
    };
    auto updated = swapper::TileStream::run(parts_, one, written);
    if (!updated && updated.error().kind == ErrorKind::kCancelled) throw Interrupted();
    stats = value_or_throw(std::move(updated));
  } catch (...) {
    failure = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  running_ = false;
  failure_ = failure;
  stats_ = stats;
  stats_.compute_seconds = std::max(0.0, stats_.compute_seconds - held_back_seconds_);
  for (UnitProgress& unit : units_) {
    if (failure && unit.incoming) unit.incoming->fail(failure);
    unit.incoming.reset();
  }
  changed_.notify_all();
}

Result<void> BackgroundUpdate::compute_item(const UpdateItem& item,
                                            const std::function<Result<void>()>& compute,
                                            std::span<const swapper::PartView> parts) {
  UnitProgress& unit = units_[item.unit];
  std::shared_ptr<IncomingUnit> incoming;
  {
    std::unique_lock lock(mutex_);
    const auto start = std::chrono::steady_clock::now();
    changed_.wait(lock, [&] {
      return cancelled_ || waiting_ > 0 || !unit.read_back || unit.position < expected_positions_;
    });
    const auto held_back = std::chrono::steady_clock::now() - start;
    held_back_seconds_ += std::chrono::duration<double>(held_back).count();
    if (cancelled_) return make_error(ErrorKind::kCancelled, "update", "", "its engine is gone");
    unit.begun = true;
    incoming = unit.incoming;
  }
  if (auto computed = compute(); !computed) return computed;
  if (incoming) incoming->put(item.tile, parts[0].plane(0));
  const std::lock_guard lock(mutex_);
  --uncomputed_;
  if (++unit.computed == unit.items || uncomputed_ == 0) changed_.notify_all();
  return {};
}

bool BackgroundUpdate::deliver(UnitId id, std::shared_ptr<IncomingUnit> incoming) {
  const std::lock_guard lock(mutex_);
  UnitProgress& unit = units_[id];
  if (!running_ || unit.begun || unit.items == 0) return false;
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
  changed_.wait(lock, [&] { return failure_ || reached() || !running_; });
  --waiting_;
  if (failure_) std::rethrow_exception(failure_);
}

void BackgroundUpdate::wait_until_computed(UnitId unit) {
  wait_for([&] { return units_[unit].computed == units_[unit].items; });
}

void BackgroundUpdate::wait_until_written(UnitId unit) {
  wait_for([&] { return units_[unit].written == units_[unit].items; });
}

void BackgroundUpdate::wait_until_computed() {
  wait_for([&] { return uncomputed_ == 0; });
}

swapper::StreamStats BackgroundUpdate::finish() {
  wait_for([&] { return false; });
  if (thread_.joinable()) thread_.join();
  return std::exchange(stats_, {});
}

}  // namespace spillway::trainer
