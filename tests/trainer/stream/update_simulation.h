// UpdateSimulation: a stream of tiles, a drive and a training loop around an UpdatePlan, without
// threads. Its values show whether every item was updated once a step with the right constants.
//
// Each event is one that the real ones may bring next, in any order. `apply` throws
// std::logic_error where a rule of the update is broken. Copies and compares, so that all orders
// can be tried.
#pragma once

#include <compare>
#include <cstddef>
#include <deque>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "trainer/stream/update_plan.h"

namespace spillway::trainer::testing {

struct UpdateEvent {
  enum Kind {
    kName,          // the stream asks for an item to read
    kBeginCompute,  // of the item that was read first
    kEndCompute,
    kWritten,  // `number`: an item
    kStart,    // a step in forward order
    kStartSpeculative,
    kFinal,  // `number`: a unit
    kKeep,   // the norm is known
    kRollBack,
    kGiveUp,   // a speculative step
    kDeliver,  // `number`: a unit that there is memory for
    kHurry,    // a thread waits for the update
  };
  Kind kind = kName;
  std::size_t number = 0;
};

std::string to_string(const UpdateEvent& event);

class UpdateSimulation {
 public:
  struct Options {
    std::vector<UpdatePlan::Item> items;
    std::vector<bool> read_back;  // by unit
    std::vector<UnitId> order;
    int steps = 2;
    int give_ups = 1;
  };
  explicit UpdateSimulation(const Options& options)
      : options_(&options),
        plan_(options.items, options.read_back.size()),
        values_(options.items.size()),
        kept_(options.items.size()),
        deliveries_(options.read_back.size()) {}

  bool ended() const {
    return step_ == options_->steps && plan_.all_computed() && unwritten_.empty() && !computing_;
  }
  std::vector<UpdateEvent> possible() const;
  void apply(const UpdateEvent& event);
  // Throws where nothing but other calls can come next, though a unit is promised or awaited.
  void check_progress(const std::vector<UpdateEvent>& possible) const;

  auto state() const {
    return std::tie(plan_, values_, kept_, named_, computing_, unwritten_, deliveries_, final_,
                    speculated_, step_, give_ups_, hurried_, verdict_);
  }
  std::strong_ordering operator<=>(const UpdateSimulation& other) const {
    return state() <=> other.state();
  }
  bool operator==(const UpdateSimulation& other) const { return state() == other.state(); }

 private:
  static constexpr int kWrong = 100;  // what an update with the constants of no clipping adds
  struct Computing {
    std::size_t item = 0;
    int addend = 0;
    bool delivers = false;
    auto operator<=>(const Computing&) const = default;
  };
  struct Delivery {
    bool asked = false;
    bool accepted = false;
    std::vector<std::size_t> items;  // that came
    auto operator<=>(const Delivery&) const = default;
  };

  static void require(bool holds, const std::string& rule) {
    if (!holds) throw std::logic_error(rule);
  }
  UnitId unit_of(std::size_t item) const { return options_->items[item].unit; }
  void begin_step();
  void check_step() const;
  void begin_compute();
  void end_compute();
  void end(const UpdatePlan::Ending& ending);
  void decide(Verdict verdict);
  void give_up();
  void deliver(UnitId unit);

  const Options* options_;
  UpdatePlan plan_;
  std::vector<int> values_;               // of each item: as many as steps were done
  std::vector<std::optional<int>> kept_;  // generations
  std::deque<std::size_t> named_;
  std::optional<Computing> computing_;
  std::set<std::size_t> unwritten_;
  std::vector<Delivery> deliveries_;  // of this step, by unit
  std::set<UnitId> final_;
  std::size_t speculated_ = 0;  // items, in this step
  int step_ = 0;
  int give_ups_ = 0;
  bool hurried_ = false;
  std::optional<Verdict> verdict_;  // that will come, of a speculative step
};

}  // namespace spillway::trainer::testing
