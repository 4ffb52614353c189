#include "trainer/stream/update_plan.h"

#include <spillway/aio/check.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace spillway::trainer {

UpdatePlan::UpdatePlan(std::vector<Item> items, std::size_t unit_count) : units_(unit_count) {
  for (const Item& item : items) {
    UnitState& unit = units_[item.unit];
    SPILLWAY_CHECK(unit.items == 0 || item.unit == items_.back().item.unit,
                   "a unit's items are together");
    ++unit.items;
    items_.push_back({.item = item});
  }
}

void UpdatePlan::start(const std::vector<UnitId>& order, std::vector<bool> read_back) {
  begin(Phase::kForward, order, std::move(read_back));
}

void UpdatePlan::start_speculative(const std::vector<UnitId>& order, std::vector<bool> read_back) {
  begin(Phase::kSpeculative, order, std::move(read_back));
  std::erase_if(order_, [&](std::size_t i) { return !items_[i].item.may_speculate; });
}

void UpdatePlan::begin(Phase phase, const std::vector<UnitId>& order, std::vector<bool> read_back) {
  SPILLWAY_CHECK(!speculative(), "a speculative update is decided on before the next one starts");
  SPILLWAY_CHECK(all_computed(), "an update is computed before the next one starts");
  for (ItemState& item : items_) {
    // The last writes of the step before may be in flight, and their generations are kept until
    // then.
    item = {.item = item.item, .writing = item.writing, .verdict = item.verdict};
  }
  for (UnitId id = 0; id < units_.size(); ++id) {
    UnitState& unit = units_[id];
    unit.computed = 0;
    unit.begun = unit.final = false;
    unit.read_back = read_back[id];
  }
  uncomputed_ = items_.size();
  phase_ = phase;
  expected_positions_ = 0;
  order_items(order);
}

void UpdatePlan::order_items(const std::vector<UnitId>& order) {
  for (UnitState& unit : units_) unit.position = order.size();
  for (std::size_t i = order.size(); i-- > 0;) units_[order[i]].position = i;
  order_.resize(items_.size());
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  std::ranges::stable_sort(order_, {},
                           [&](std::size_t i) { return units_[items_[i].item.unit].position; });
  next_ = 0;
}

UpdatePlan::Decided UpdatePlan::decide(const std::vector<UnitId>& order, Verdict verdict) {
  SPILLWAY_CHECK(speculative(), "there is nothing to decide on");
  phase_ = Phase::kForward;
  order_items(order);
  if (verdict == Verdict::kRollBack) {
    for (UnitState& unit : units_) unit.begun = false;
  }
  Decided decided;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    ItemState& item = items_[i];
    if (!std::exchange(item.open, false)) continue;
    ++decided.items;
    item.verdict = verdict;
    if (verdict == Verdict::kRollBack && std::exchange(item.computed, false)) {
      --units_[item.item.unit].computed;
      ++uncomputed_;
    }
    if (item.writing) continue;
    decided.endings.push_back(*take_ending(i));
  }
  return decided;
}

// An item that is rolled back is read again.
std::optional<UpdatePlan::Ending> UpdatePlan::take_ending(std::size_t number) {
  ItemState& item = items_[number];
  const std::optional<Verdict> verdict = std::exchange(item.verdict, std::nullopt);
  if (!verdict) return std::nullopt;
  if (*verdict == Verdict::kRollBack) {
    item.named = false;
    next_ = 0;
  }
  return Ending{number, *verdict};
}

std::vector<UpdatePlan::Ending> UpdatePlan::give_up() {
  SPILLWAY_CHECK(speculative(), "there is nothing to give up");
  std::vector<Ending> endings;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (items_[i].open) items_[i].verdict = Verdict::kRollBack;
    if (items_[i].verdict) endings.push_back({i, *items_[i].verdict});
    items_[i] = {.item = items_[i].item};
  }
  for (UnitState& unit : units_) unit.computed = unit.writing = 0;
  phase_ = Phase::kIdle;
  uncomputed_ = 0;
  return endings;
}

void UpdatePlan::finish() {
  SPILLWAY_CHECK(!speculative(), "a speculative update is decided on first");
  SPILLWAY_CHECK(all_computed(), "a step is finished when all of it is computed");
  phase_ = Phase::kIdle;
}

std::optional<std::size_t> UpdatePlan::name_next() {
  if (phase_ == Phase::kIdle) return std::nullopt;
  while (next_ < order_.size() && items_[order_[next_]].named) ++next_;
  if (next_ == order_.size()) return std::nullopt;
  ItemState& item = items_[order_[next_]];
  if (item.writing) return std::nullopt;  // the step before still writes it
  item.named = true;
  return order_[next_];
}

bool UpdatePlan::may_compute(std::size_t number, bool hurried) const {
  const UnitState& unit = units_[items_[number].item.unit];
  if (speculative()) return unit.final;
  if (hurried || !unit.read_back || unit.begun || unit.position < expected_positions_) return true;
  // Items are computed in the order in which they were read. One that was read on speculation, or
  // before others were rolled back, must not be in the way of a unit that there is memory for.
  return std::ranges::any_of(units_, [&](const UnitState& other) {
    return other.position < expected_positions_ && other.computed < other.items;
  });
}

bool UpdatePlan::begin_compute(std::size_t number) {
  ItemState& item = items_[number];
  UnitState& unit = units_[item.item.unit];
  unit.begun = item.writing = true;
  ++unit.writing;
  item.open = speculative();
  return item.open;
}

void UpdatePlan::set_not_kept(std::size_t number) {
  items_[number].open = false;
  items_[number].verdict.reset();
}

bool UpdatePlan::set_computed(std::size_t number) {
  ItemState& item = items_[number];
  if (item.verdict == Verdict::kRollBack) return false;  // to be computed again
  UnitState& unit = units_[item.item.unit];
  item.computed = true;
  --uncomputed_;
  return ++unit.computed == unit.items || uncomputed_ == 0;
}

std::optional<UpdatePlan::Ending> UpdatePlan::set_written(std::size_t number) {
  ItemState& item = items_[number];
  item.writing = false;
  --units_[item.item.unit].writing;
  return take_ending(number);
}

bool UpdatePlan::expect_delivery(UnitId id) {
  const UnitState& unit = units_[id];
  if (phase_ != Phase::kForward || unit.begun || unit.items == 0) return false;
  expected_positions_ = std::max(expected_positions_, unit.position + 1);
  return true;
}

UpdatePlan::Readable UpdatePlan::readable(UnitId id) const {
  const UnitState& unit = units_[id];
  if (speculative() && unit.begun) return Readable::kUsedAgain;
  const bool updated = phase_ != Phase::kForward || unit.computed == unit.items;
  return updated && unit.writing == 0 ? Readable::kNow : Readable::kNotYet;
}

}  // namespace spillway::trainer
