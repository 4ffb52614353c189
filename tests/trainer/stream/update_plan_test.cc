// The rules of the update, without a thread: each by itself, then all of them in every order of
// events of a small model, and in random orders of a larger one.
#include "trainer/stream/update_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <stdexcept>
#include <string>

#include "tests/support/seed.h"
#include "tests/trainer/stream/update_simulation.h"

namespace spillway::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::Optional;
using testing::UpdateEvent;
using testing::UpdateSimulation;

constexpr std::optional<std::size_t> kNone;

// Three units of two items each.
class UpdatePlanTest : public ::testing::Test {
 protected:
  void name(std::size_t items) {
    for (std::size_t i = 0; i < items; ++i) ASSERT_TRUE(plan_.name_next());
  }
  void compute(std::size_t item) {
    ASSERT_TRUE(plan_.may_compute(item, false));
    plan_.begin_compute(item);
    plan_.set_computed(item);
  }
  void start() { plan_.start({0, 1, 2}, read_back_); }

  const std::vector<bool> read_back_{true, true, true};
  UpdatePlan plan_{{{0, true}, {0, true}, {1, true}, {1, true}, {2, true}, {2, false}}, 3};
};

TEST_F(UpdatePlanTest, NamesItemsInTheOrderOfTheUnitsAndEachOnce) {
  EXPECT_EQ(plan_.name_next(), kNone) << "no step has begun";
  plan_.start({2, 0}, read_back_);
  for (const std::size_t item : {4, 5, 0, 1, 2, 3}) EXPECT_THAT(plan_.name_next(), Optional(item));
  EXPECT_EQ(plan_.name_next(), kNone);
}

TEST_F(UpdatePlanTest, HoldsAUnitBackUntilThereIsMemoryForIt) {
  start();
  name(6);
  EXPECT_FALSE(plan_.may_compute(0, false));
  EXPECT_TRUE(plan_.may_compute(0, /*hurried=*/true));
  EXPECT_TRUE(plan_.expect_delivery(0));
  compute(0);
  EXPECT_FALSE(plan_.expect_delivery(0)) << "it has begun";
  compute(1);
  EXPECT_FALSE(plan_.may_compute(2, false)) << "there is no memory for the second unit";
  EXPECT_TRUE(plan_.expect_delivery(2));
  EXPECT_TRUE(plan_.may_compute(2, false)) << "it is before one that there is memory for";
}

TEST_F(UpdatePlanTest, DoesNotHoldBackWhatNobodyReadsBack) {
  plan_.start({0, 1, 2}, {false, true, true});
  name(6);
  compute(0);
  compute(1);
  EXPECT_FALSE(plan_.may_compute(2, false));
}

TEST_F(UpdatePlanTest, SpeculatesOnFinalUnitsAlone) {
  plan_.start_speculative({2, 1, 0}, read_back_);
  EXPECT_THAT(plan_.name_next(), Optional(4u));
  EXPECT_THAT(plan_.name_next(), Optional(2u)) << "5 keeps no generation";
  EXPECT_FALSE(plan_.may_compute(4, /*hurried=*/true)) << "its gradient is not final";
  EXPECT_FALSE(plan_.expect_delivery(2));
  EXPECT_EQ(plan_.readable(2), UpdatePlan::Readable::kNow) << "as it was before the step";
  plan_.set_final(2);
  EXPECT_TRUE(plan_.may_compute(4, false));
  EXPECT_TRUE(plan_.begin_compute(4)) << "its generation is kept";
  EXPECT_EQ(plan_.readable(2), UpdatePlan::Readable::kUsedAgain);
}

TEST_F(UpdatePlanTest, KeepsWhatWasSpeculative) {
  plan_.start_speculative({2, 1, 0}, read_back_);
  plan_.set_final(2);
  name(1);
  compute(4);
  EXPECT_EQ(plan_.set_written(4), std::nullopt) << "not before the verdict";
  const auto decided = plan_.decide({0, 1, 2}, Verdict::kKeep);
  EXPECT_EQ(decided.items, 1u);
  EXPECT_THAT(decided.endings, ElementsAre(UpdatePlan::Ending{4, Verdict::kKeep}));
  EXPECT_FALSE(plan_.expect_delivery(2)) << "a part of it is in its tier already";
  for (const std::size_t item : {0, 1, 2, 3, 5}) EXPECT_THAT(plan_.name_next(), Optional(item));
}

TEST_F(UpdatePlanTest, RollsBackWhatIsWrittenAtOnceAndTheRestLater) {
  plan_.start_speculative({2, 1, 0}, read_back_);
  plan_.set_final(2);
  plan_.set_final(1);
  name(2);
  compute(4);
  plan_.set_written(4);
  compute(2);
  const auto decided = plan_.decide({0, 1, 2}, Verdict::kRollBack);
  EXPECT_EQ(decided.items, 2u);
  EXPECT_THAT(decided.endings, ElementsAre(UpdatePlan::Ending{4, Verdict::kRollBack}));
  name(2);
  EXPECT_THAT(plan_.name_next(), Optional(3u)) << "2 is being written";
  EXPECT_THAT(plan_.set_written(2), Optional(UpdatePlan::Ending{2, Verdict::kRollBack}));
  for (const std::size_t item : {2, 4, 5}) EXPECT_THAT(plan_.name_next(), Optional(item));
  EXPECT_TRUE(plan_.expect_delivery(2)) << "all of it is still to come";
}

TEST_F(UpdatePlanTest, AVerdictOutlivesItsStep) {
  UpdatePlan plan({{0, true}}, 1);
  plan.start_speculative({0}, {true});
  plan.set_final(0);
  plan.name_next();
  EXPECT_TRUE(plan.begin_compute(0));
  EXPECT_TRUE(plan.set_computed(0)) << "the step";
  EXPECT_TRUE(plan.decide({0}, Verdict::kKeep).endings.empty()) << "it is being written";
  plan.start_speculative({0}, {true});
  EXPECT_EQ(plan.name_next(), kNone) << "its bytes are still on their way";
  EXPECT_THAT(plan.set_written(0), Optional(UpdatePlan::Ending{0, Verdict::kKeep}));
  EXPECT_THAT(plan.name_next(), Optional(0u));
}

TEST_F(UpdatePlanTest, GivesUpASpeculativeStep) {
  plan_.start_speculative({2, 1, 0}, read_back_);
  plan_.set_final(2);
  name(1);
  plan_.begin_compute(4);
  EXPECT_THAT(plan_.give_up(), ElementsAre(UpdatePlan::Ending{4, Verdict::kRollBack}));
  EXPECT_TRUE(plan_.all_computed());
  EXPECT_EQ(plan_.name_next(), kNone);
  start();
  name(6);
}

TEST_F(UpdatePlanTest, RefusesCallsOutOfTurn) {
  EXPECT_DEATH(plan_.decide({}, Verdict::kKeep), "nothing to decide on");
  EXPECT_DEATH(plan_.give_up(), "nothing to give up");
  start();
  EXPECT_DEATH(start(), "computed before the next one starts");
  EXPECT_DEATH(plan_.finish(), "when all of it is computed");
}

// What one simulation may go through, depth first; each state once.
class Explorer {
 public:
  explicit Explorer(const UpdateSimulation::Options& options) : start_(options) {}
  void explore() { explore(start_); }
  std::size_t states() const { return seen_.size(); }
  std::size_t ends() const { return ends_; }

 private:
  void explore(const UpdateSimulation& from) {
    if (!seen_.insert(from).second) return;
    const std::vector<UpdateEvent> events = from.possible();
    ends_ += from.ended() ? 1 : 0;
    try {
      from.check_progress(events);
      for (const UpdateEvent& event : events) {
        path_.push_back(event);
        UpdateSimulation next = from;
        next.apply(event);
        explore(next);
        path_.pop_back();
      }
    } catch (const std::logic_error& broken) {
      std::string events_before;
      for (const UpdateEvent& event : path_) events_before += to_string(event) + ", ";
      throw std::runtime_error(std::string(broken.what()) + ", after: " + events_before);
    }
  }

  const UpdateSimulation start_;
  std::set<UpdateSimulation> seen_;
  std::vector<UpdateEvent> path_;
  std::size_t ends_ = 0;
};

TEST(UpdatePlanRules, HoldInEveryOrderOfEvents) {
  for (const bool all_read_back : {true, false}) {
    const UpdateSimulation::Options options{.items = {{0, true}, {1, true}, {1, !all_read_back}},
                                            .read_back = {true, all_read_back},
                                            .order = {0, 1}};
    Explorer explorer(options);
    EXPECT_NO_THROW(explorer.explore());
    std::cout << explorer.states() << " states, " << explorer.ends() << " ends\n";
    EXPECT_GT(explorer.states(), 1000u);
    EXPECT_GT(explorer.ends(), 0u);
  }
}

TEST(UpdatePlanRules, HoldInRandomOrdersOfALargerModel) {
  std::mt19937_64 random(test_seed(7));
  for (int round = 0; round < 300; ++round) {
    UpdateSimulation::Options options{
        .items = {}, .read_back = {}, .order = {}, .steps = 12, .give_ups = 3};
    for (UnitId unit = 0; unit < 6; ++unit) {
      const std::size_t tiles = random() % 4;
      for (std::size_t i = 0; i < tiles; ++i) options.items.push_back({unit, random() % 4 != 0});
      options.read_back.push_back(random() % 4 != 0);
      if (random() % 8 != 0) options.order.push_back(unit);
    }
    std::ranges::shuffle(options.order, random);
    UpdateSimulation simulation(options);
    std::string path;
    while (!simulation.ended()) {
      const std::vector<UpdateEvent> events = simulation.possible();
      ASSERT_NO_THROW(simulation.check_progress(events)) << path;
      ASSERT_FALSE(events.empty()) << path;
      const UpdateEvent event = events[random() % events.size()];
      path += to_string(event) + ", ";
      ASSERT_NO_THROW(simulation.apply(event)) << path;
    }
  }
}

}  // namespace
}  // namespace spillway::trainer
