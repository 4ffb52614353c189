#include "tests/trainer/stream/update_simulation.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace spillway::trainer::testing {

std::string to_string(const UpdateEvent& event) {
  static constexpr const char* kNames[] = {"name",      "begin",     "end",     "written",
                                           "start",     "speculate", "final",   "keep",
                                           "roll back", "give up",   "deliver", "hurry"};
  return std::string(kNames[event.kind]) + " " + std::to_string(event.number);
}

std::vector<UpdateEvent> UpdateSimulation::possible() const {
  std::vector<UpdateEvent> events;
  // Asking is an event of its own only where it has an answer.
  if (UpdatePlan copy = plan_; copy.name_next()) events.push_back({UpdateEvent::kName});
  if (computing_) {
    events.push_back({UpdateEvent::kEndCompute});
  } else if (!named_.empty() && plan_.may_compute(named_.front(), hurried_)) {
    events.push_back({UpdateEvent::kBeginCompute});
  }
  for (const std::size_t item : unwritten_) events.push_back({UpdateEvent::kWritten, item});
  if (plan_.speculative()) {
    for (UnitId unit = 0; unit < deliveries_.size(); ++unit) {
      if (!final_.contains(unit)) events.push_back({UpdateEvent::kFinal, unit});
    }
    events.push_back({*verdict_ == Verdict::kKeep ? UpdateEvent::kKeep : UpdateEvent::kRollBack});
    if (give_ups_ < options_->give_ups) events.push_back({UpdateEvent::kGiveUp});
  } else if (!plan_.all_computed()) {
    for (UnitId unit = 0; unit < deliveries_.size(); ++unit) {
      if (!deliveries_[unit].asked) events.push_back({UpdateEvent::kDeliver, unit});
    }
    if (!hurried_) events.push_back({UpdateEvent::kHurry});
  } else if (step_ < options_->steps && !computing_) {
    events.push_back({UpdateEvent::kStart});
    events.push_back({UpdateEvent::kStartSpeculative, 0});
    events.push_back({UpdateEvent::kStartSpeculative, 1});
  }
  return events;
}

void UpdateSimulation::apply(const UpdateEvent& event) {
  switch (event.kind) {
    case UpdateEvent::kName: {
      const auto named = plan_.name_next();
      require(named.has_value(), "an item is read when there is one");
      require(std::ranges::find(named_, *named) == named_.end(), "an item is read once");
      return named_.push_back(*named);
    }
    case UpdateEvent::kBeginCompute:
      return begin_compute();
    case UpdateEvent::kEndCompute:
      return end_compute();
    case UpdateEvent::kWritten:
      unwritten_.erase(event.number);
      if (const auto ending = plan_.set_written(event.number)) end(*ending);
      return;
    case UpdateEvent::kStart:
      begin_step();
      return plan_.start(options_->order, options_->read_back);
    case UpdateEvent::kStartSpeculative:
      begin_step();
      verdict_ = event.number == 0 ? Verdict::kKeep : Verdict::kRollBack;
      return plan_.start_speculative({options_->order.rbegin(), options_->order.rend()},
                                     options_->read_back);
    case UpdateEvent::kFinal:
      final_.insert(static_cast<UnitId>(event.number));
      return plan_.set_final(static_cast<UnitId>(event.number));
    case UpdateEvent::kKeep:
      return decide(Verdict::kKeep);
    case UpdateEvent::kRollBack:
      return decide(Verdict::kRollBack);
    case UpdateEvent::kGiveUp:
      return give_up();
    case UpdateEvent::kDeliver:
      return deliver(static_cast<UnitId>(event.number));
    case UpdateEvent::kHurry:
      hurried_ = true;
  }
}

void UpdateSimulation::check_progress(const std::vector<UpdateEvent>& possible) const {
  if (std::ranges::any_of(
          possible, [](const UpdateEvent& event) { return event.kind <= UpdateEvent::kWritten; })) {
    return;
  }
  require(ended() || !possible.empty(), "an update ends");
  require(!hurried_ || plan_.speculative() || plan_.all_computed(), "who waits is not held back");
  for (UnitId unit = 0; unit < deliveries_.size(); ++unit) {
    const auto items = std::ranges::count(options_->items, unit, &UpdatePlan::Item::unit);
    require(!deliveries_[unit].accepted || std::ssize(deliveries_[unit].items) == items,
            "a unit that there is memory for is not held back");
  }
}

void UpdateSimulation::begin_step() {
  ++step_;
  for (Delivery& delivery : deliveries_) delivery = {};
  final_.clear();
  speculated_ = 0;
  hurried_ = false;
}

void UpdateSimulation::begin_compute() {
  const std::size_t item = named_.front();
  named_.pop_front();
  require(!unwritten_.contains(item), "an item is computed when it is written");
  require(values_[item] == step_ - 1, "an item is computed once a step");
  const UnitId unit = unit_of(item);
  const bool keeps = plan_.begin_compute(item);
  require(keeps == plan_.speculative(), "a generation is kept of what may be rolled back");
  if (keeps) {
    require(final_.contains(unit), "an update waits for the gradient");
    require(options_->items[item].may_speculate, "what keeps no generation is not rolled back");
    require(!kept_[item], "one generation is kept at a time");
    kept_[item] = values_[item];
    ++speculated_;
  }
  const bool wrong = keeps && *verdict_ == Verdict::kRollBack;
  computing_ = Computing{item, wrong ? kWrong : 1, deliveries_[unit].accepted};
}

void UpdateSimulation::end_compute() {
  const Computing computed = *std::exchange(computing_, std::nullopt);
  values_[computed.item] += computed.addend;
  unwritten_.insert(computed.item);
  if (computed.delivers) deliveries_[unit_of(computed.item)].items.push_back(computed.item);
  plan_.set_computed(computed.item);
  if (!plan_.speculative() && plan_.all_computed()) check_step();
}

// All is computed.
void UpdateSimulation::check_step() const {
  for (std::size_t item = 0; item < values_.size(); ++item) {
    require(values_[item] == step_, "every item is updated once a step, with its constants");
  }
  for (UnitId unit = 0; unit < deliveries_.size(); ++unit) {
    if (!deliveries_[unit].accepted) continue;
    std::vector<std::size_t> all;
    for (std::size_t item = 0; item < values_.size(); ++item) {
      if (unit_of(item) == unit) all.push_back(item);
    }
    std::vector<std::size_t> came = deliveries_[unit].items;
    std::ranges::sort(came);
    require(came == all, "all tiles of a unit are delivered, each once");
  }
}

void UpdateSimulation::end(const UpdatePlan::Ending& ending) {
  require(kept_[ending.item].has_value(), "what ends was kept");
  require(!unwritten_.contains(ending.item), "a generation ends when the item is written");
  require(!computing_ || computing_->item != ending.item, "and not while it is computed");
  if (ending.verdict == Verdict::kRollBack) values_[ending.item] = *kept_[ending.item];
  kept_[ending.item].reset();
}

void UpdateSimulation::decide(Verdict verdict) {
  const UpdatePlan::Decided decided = plan_.decide(options_->order, verdict);
  require(decided.items == speculated_, "the verdict is on every speculative update");
  for (const UpdatePlan::Ending& ending : decided.endings) {
    require(ending.verdict == verdict, "the verdict is carried out");
    end(ending);
  }
  verdict_.reset();
  if (plan_.all_computed()) check_step();
}

// The stream stops: what is computed comes to nothing, what is read is dropped.
void UpdateSimulation::give_up() {
  if (computing_) values_[computing_->item] = -1;
  computing_.reset();
  named_.clear();
  unwritten_.clear();
  for (const UpdatePlan::Ending& ending : plan_.give_up()) end(ending);
  ++give_ups_;
  --step_;
  verdict_.reset();
  for (std::size_t item = 0; item < values_.size(); ++item) {
    require(values_[item] == step_, "a step that is given up changes nothing");
    require(!kept_[item], "and leaves no generation");
  }
}

void UpdateSimulation::deliver(UnitId unit) {
  Delivery& delivery = deliveries_[unit];
  delivery.asked = true;
  delivery.accepted = plan_.expect_delivery(unit);
}

}  // namespace spillway::trainer::testing
