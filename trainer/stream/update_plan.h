// UpdatePlan: the rules of an update of all tiles, step after step.
//
// Says which item is read next, which may be computed, whether a speculative update is kept or
// rolled back, and whether a unit's new weights can still be delivered. It has no thread, no clock
// and does no I/O: BackgroundUpdate does what it says. An item is one tile with all its states.
// In forward order an update runs ahead of the forward pass by what there is memory for. During
// backward it is speculative: a unit is updated once its gradient is final, as if the norm were
// not clipped, and `decide` then keeps these updates or rolls them back. Each item is updated once
// a step. One thread at a time.
#pragma once

#include <spillway/trainer/unit_id.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace spillway::trainer {

// On the speculative updates of a step.
enum class Verdict : std::uint8_t { kKeep, kRollBack };

class UpdatePlan {
 public:
  struct Item {
    UnitId unit = 0;
    bool may_speculate = false;  // its tiles can keep a generation
    auto operator<=>(const Item&) const = default;
  };
  // What to do with the kept generation of an item that is written.
  struct Ending {
    std::size_t item = 0;
    Verdict verdict = Verdict::kKeep;
    auto operator<=>(const Ending&) const = default;
  };
  struct Decided {
    std::size_t items = 0;        // that the verdict is on
    std::vector<Ending> endings;  // of those that are written; the others end in `written`
  };

  // `items`: what every step updates, the items of a unit together.
  UpdatePlan(std::vector<Item> items, std::size_t unit_count);

  // Begin a step. `order`: the units first to last; units that it leaves out come after.
  // `read_back`: by unit, true if its weights must be read after the update: then it is held back
  // until there is memory to deliver them to. REQUIRES: all_computed(), not speculative().
  void start(const std::vector<UnitId>& order, std::vector<bool> read_back);
  void start_speculative(const std::vector<UnitId>& order, std::vector<bool> read_back);
  // The gradient of the unit is final, and its weights are not used again before their update.
  void set_final(UnitId unit) { units_[unit].final = true; }
  // Ends the speculation: the units that it did not update follow in `order`.
  // REQUIRES: speculative().
  Decided decide(const std::vector<UnitId>& order, Verdict verdict);
  // Gives the step up. Returns what to do with the generations that are kept. REQUIRES:
  // speculative(); nothing is being read, computed or written.
  std::vector<Ending> give_up();
  // Ends the step. REQUIRES: all_computed(), not speculative().
  void finish();

  // Returns the item to read next and marks it as read; nothing if there is none now.
  std::optional<std::size_t> name_next();
  // True if the item may be computed now. `hurried`: a thread waits for the update.
  bool may_compute(std::size_t item, bool hurried) const;
  // The item is being computed. Returns true if its generation must be kept first.
  bool begin_compute(std::size_t item);
  // Its generation could not be kept: nothing is to be rolled back.
  void set_not_kept(std::size_t item);
  // The item is computed. Returns true if that completes its unit or the step.
  bool set_computed(std::size_t item);
  // Its bytes are in their tiers. Returns what to do with the generation it kept.
  std::optional<Ending> set_written(std::size_t item);

  // True if the new weights of the unit are all still to come. Then there is memory for them, and
  // the update may go on to this unit.
  bool expect_delivery(UnitId unit);
  // Whether the tiers hold the unit's weights: those of after the step, or while it is speculative
  // those of before. kUsedAgain: it was final and its speculative update has begun.
  enum class Readable : std::uint8_t { kNotYet, kNow, kUsedAgain };
  Readable readable(UnitId unit) const;
  bool unit_written(UnitId unit) const { return units_[unit].writing == 0; }
  bool all_computed() const { return uncomputed_ == 0; }
  bool speculative() const { return phase_ == Phase::kSpeculative; }

  auto operator<=>(const UpdatePlan&) const = default;

 private:
  enum class Phase : std::uint8_t { kIdle, kSpeculative, kForward };
  struct ItemState {
    Item item;
    bool named = false;                             // in this step
    bool writing = false;                           // being computed, or written to the tiers
    bool computed = false;                          // in this step, for good
    bool open = false;                              // updated on speculation, and not decided on
    std::optional<Verdict> verdict = std::nullopt;  // on what is still being written
    auto operator<=>(const ItemState&) const = default;
  };
  struct UnitState {
    std::size_t position = 0;  // in forward order
    std::size_t items = 0;
    std::size_t computed = 0;
    std::size_t writing = 0;
    bool begun = false;
    bool final = false;
    bool read_back = false;
    auto operator<=>(const UnitState&) const = default;
  };

  void begin(Phase phase, const std::vector<UnitId>& order, std::vector<bool> read_back);
  void order_items(const std::vector<UnitId>& order);
  std::optional<Ending> take_ending(std::size_t item);

  Phase phase_ = Phase::kIdle;
  std::vector<ItemState> items_;
  std::vector<UnitState> units_;
  std::vector<std::size_t> order_;      // items, as they are to be read
  std::size_t next_ = 0;                // in order_
  std::size_t expected_positions_ = 0;  // units before this one have memory to go to
  std::size_t uncomputed_ = 0;          // items
};

}  // namespace spillway::trainer
