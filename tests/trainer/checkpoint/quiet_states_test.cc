// ZeroEngine::when_quiet: the states of the step it was asked after, wherever it is called.
#include <gmock/gmock.h>
#include <spillway/trainer/checkpoint_save.h>

#include "tests/trainer/checkpoint/faulty_files.h"
#include "tests/trainer/checkpoint/states_fixture.h"
#include "trainer/states/model_states.h"

namespace spillway::trainer::testing {
namespace {

class QuietStatesTest : public CheckpointStatesTest {
 protected:
  QuietStatesTest() { files_.links = false; }
  Config on_nvme(UpdateOrder order) const {
    Config config = this->config(OffloadDevice::kNvme, OffloadDevice::kNvme);
    config.sub_group_size = 3'000;
    config.update_order = order;
    return config;
  }
  std::filesystem::path directory(const std::string& name) const {
    const std::filesystem::path path = saved_ / name;
    std::filesystem::create_directory(path);
    return path;
  }
  // All of the engine's states, now.
  std::string saved_now(ZeroEngine& engine, const std::string& name) {
    save_checkpoint(engine.quiet_states(), {.step = engine.steps_done()}, directory(name), files_);
    return bytes_in(name, engine.steps_done());
  }
  std::string bytes_in(const std::string& name, std::uint64_t step) const {
    return bytes_of(saved_ / name / checkpoint_name(step) / "rank-0000.bin");
  }

  FaultyFiles files_;
};

TEST_F(QuietStatesTest, SavedWithinTheNextStepTheyAreThoseBeforeIt) {
  for (const UpdateOrder order :
       {UpdateOrder::kAfterBackward, UpdateOrder::kForward, UpdateOrder::kBackward}) {
    SCOPED_TRACE(to_string(order));
    const std::string name = to_string(order);
    std::string after_one, after_four;
    {
      const auto engine = own_engine(on_nvme(order), *ranks_);
      train_own(*engine);
      after_one = saved_now(*engine, name + "-expected");
      for (int step = 0; step < 3; ++step) train_own(*engine);
      after_four = saved_now(*engine, name + "-expected");
    }
    const auto engine = own_engine(on_nvme(order), *ranks_);
    train_own(*engine);
    std::unique_ptr<CheckpointSave> save;
    double waited_seconds = -1;
    engine->when_quiet([&](ModelStates& states, double waited) {
      waited_seconds = waited;
      save = std::make_unique<CheckpointSave>(states, CheckpointFacts{.step = 1}, directory(name),
                                              files_);
    });
    EXPECT_EQ(save, nullptr) << "nothing waits for the update when it is asked";
    train_own(*engine);
    ASSERT_NE(save, nullptr);
    EXPECT_GE(waited_seconds, 0);
    for (int step = 0; step < 2; ++step) train_own(*engine);
    save->finish();
    EXPECT_EQ(bytes_in(name, 1) == after_one, true);
    EXPECT_EQ(saved_now(*engine, name) == after_four, true) << "training went on with other bits";
  }
}

TEST_F(QuietStatesTest, AnInferencePassOrQuietStatesCallItBefore) {
  const auto engine = own_engine(on_nvme(UpdateOrder::kForward), *ranks_);
  int called = 0;
  const auto count = [&](ModelStates& states, double) {
    EXPECT_EQ(&states, &engine->states());
    ++called;
  };
  train_own(*engine);
  engine->when_quiet(count);
  engine->inference_pass();
  EXPECT_EQ(called, 1);
  engine->when_quiet(count);
  engine->quiet_states();
  EXPECT_EQ(called, 2);
  train_own(*engine);
  EXPECT_EQ(called, 2) << "once, each";
}

TEST_F(QuietStatesTest, WhatItThrowsComesOutOfTheStep) {
  const auto engine = own_engine(on_nvme(UpdateOrder::kBackward), *ranks_);
  train_own(*engine);
  engine->when_quiet([](ModelStates&, double) { throw Interrupted(); });
  EXPECT_THROW(train_own(*engine), Interrupted);
}

TEST_F(QuietStatesTest, WhatItMovesIsNoStepsTraffic) {
  const auto trained = [&](bool reads) {
    // In its first step: later ones read ahead, and by chance let some of that go again.
    const auto engine = own_engine(on_nvme(UpdateOrder::kAfterBackward), *ranks_);
    if (reads) {
      engine->when_quiet([&](ModelStates& states, double) {
        StateTiers& tiers = states.tiers();
        auto read =
            tiers.weights().read(0, {.first = 0, .count = 1}, tiers.weight_pool()->acquire());
        value_or_throw(read.wait());
      });
    }
    return train_own(*engine).nvme_read_bytes;
  };
  EXPECT_EQ(trained(true), trained(false));
}

using QuietStatesDeathTest = QuietStatesTest;
TEST_F(QuietStatesDeathTest, OneWaitsAtATime) {
  const auto engine = own_engine(on_nvme(UpdateOrder::kForward), *ranks_);
  engine->when_quiet([](ModelStates&, double) {});
  EXPECT_DEATH(engine->when_quiet([](ModelStates&, double) {}), "one at a time");
}

}  // namespace
}  // namespace spillway::trainer::testing
