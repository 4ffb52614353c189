#include <gtest/gtest.h>
#include <spillway/trainer/config.h>
#include <cmath>

#include "tests/trainer/config/config_fixture.h"

namespace spillway::trainer {
namespace {

using LearningRateTest = ConfigFixture;

std::string scheduler(const std::string& type, const std::string& params) {
  return R"({"optimizer": {"params": {"lr": 0.5}}, "scheduler": {"type": ")" + type +
         R"(", "params": {)" + params + "}}}";
}

TEST_F(LearningRateTest, ConstantWithoutAScheduler) {
  const Config config = this->config(R"({"optimizer": {"params": {"lr": 0.25}}})");
  EXPECT_EQ(learning_rate_at(config, 1), 0.25);
  EXPECT_EQ(learning_rate_at(config, 1'000'000), 0.25);
}

TEST_F(LearningRateTest, LinearWarmupReachesTheTopAndStays) {
  const Config config =
      this->config(scheduler("WarmupLR", R"("warmup_min_lr": 0.1, "warmup_max_lr": 0.5,
                               "warmup_num_steps": 4, "warmup_type": "linear")"));
  const double expected[] = {0.1, 0.2, 0.3, 0.4, 0.5, 0.5};
  for (int step = 1; step <= 6; ++step) {
    EXPECT_DOUBLE_EQ(learning_rate_at(config, step), expected[step - 1]) << step;
  }
}

TEST_F(LearningRateTest, LogWarmupIsTheDefault) {
  const Config config = this->config(scheduler("WarmupLR", R"("warmup_num_steps": 8)"));
  EXPECT_EQ(learning_rate_at(config, 1), 0.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 2), 0.5 / 3);  // log 2 / log 8 of lr
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 4), 0.5 * 2 / 3);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 8), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 9), 0.5);
}

TEST_F(LearningRateTest, WarmupOfOneStepIsTwo) {
  const Config config = this->config(scheduler("WarmupLR", R"("warmup_num_steps": 1)"));
  EXPECT_EQ(learning_rate_at(config, 1), 0.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 2), 0.5);
}

TEST_F(LearningRateTest, DecayIsLinearToTheTotal) {
  const Config config =
      this->config(scheduler("WarmupDecayLR", R"("warmup_max_lr": 1.0, "warmup_num_steps": 2,
                                    "warmup_type": "linear", "total_num_steps": 10)"));
  EXPECT_EQ(learning_rate_at(config, 1), 0.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 2), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 3), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 7), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 10), 0.125);
  EXPECT_EQ(learning_rate_at(config, 11), 0.0);
  EXPECT_EQ(learning_rate_at(config, 99), 0.0);
}

TEST_F(LearningRateTest, CosineScalesTheOptimizersRate) {
  const Config config =
      this->config(scheduler("WarmupCosineLR", R"("warmup_num_steps": 4, "warmup_type": "linear",
        "warmup_min_ratio": 0.2, "cos_min_ratio": 0.1, "total_num_steps": 12)"));
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 1), 0.5 * 0.2);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 3), 0.5 * 0.6);
  // Index 7 is 4 of 8 decay steps: half way between 1 and 0.1.
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 8), 0.5 * 0.55);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 5),
                   0.5 * (0.1 + 0.9 * (1 + std::cos(std::acos(-1.0) / 8)) / 2));
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 12), 0.5 * 0.1);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 50), 0.5 * 0.1);  // and never up again
}

}  // namespace
}  // namespace spillway::trainer
