// The definition of the update against the papers' formulas in double precision.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/trainer/kernels/optimizer_state.h"

namespace spillway::trainer {
namespace {

using testing::TileState;
using testing::Values;

constexpr std::uint64_t kSeed = 20262;
constexpr double kGradScale = 0.5;

TEST(UpdateConstants, AreCorrectedFromTheStepNumber) {
  const UpdateOptions options{
      .learning_rate = 0.5, .beta1 = 0.75, .beta2 = 0.9375, .epsilon = 0.125, .weight_decay = 0.25};
  const UpdateConstants first = UpdateConstants::at_step(options, 1, 2.0f);
  EXPECT_EQ(first.one_minus_beta1, 0.25f);
  EXPECT_EQ(first.one_minus_beta2, 0.0625f);
  EXPECT_EQ(first.inv_sqrt_bias2, 4.0f);  // 1 / sqrt(1 - 15/16)
  EXPECT_EQ(first.step_size, 2.0f);       // 0.5 / (1 - 0.75)
  EXPECT_EQ(first.decay, 0.875f);
  EXPECT_EQ(first.l2, 0.25f);
  EXPECT_EQ(first.epsilon, 0.125f);
  EXPECT_EQ(first.grad_scale, 2.0f);
  EXPECT_EQ(UpdateConstants::at_step(options, 2, 2.0f).step_size, 0.5f / 0.4375f);
  EXPECT_EQ(first.without_weight_decay().decay, 1.0f);
  EXPECT_EQ(first.without_weight_decay().l2, 0.0f);
  EXPECT_DEATH(UpdateConstants::at_step(options, 0, 1.0f), "from 1");
}

// Lion and Adagrad step by the learning rate itself.
TEST(UpdateConstants, OnlyAdamCorrectsItsStep) {
  for (const auto kind : {OptimizerKind::kLion, OptimizerKind::kAdagrad}) {
    EXPECT_EQ(UpdateConstants::at_step({.kind = kind, .learning_rate = 0.5}, 1, 1).step_size, 0.5f);
  }
}

// One parameter of an optimizer in double, as torch.optim (and DeepSpeed's Lion) compute it.
struct Exact {
  double p, s0 = 0, s1 = 0;

  void step(const UpdateOptions& o, int t, double grad) {
    double g = kGradScale * grad;
    switch (o.kind) {
      case OptimizerKind::kLion: {
        const double u = o.beta1 * s0 + (1 - o.beta1) * g;
        p -= o.learning_rate * ((u > 0) - (u < 0) + o.weight_decay * p);
        s0 = o.beta2 * s0 + (1 - o.beta2) * g;
        return;
      }
      case OptimizerKind::kAdagrad:
        g += o.weight_decay * p;
        s0 += g * g;
        p -= o.learning_rate * g / (std::sqrt(s0) + o.epsilon);
        return;
      case OptimizerKind::kAdam:
        g += o.weight_decay * p;
        break;
      case OptimizerKind::kAdamW:
        p -= o.learning_rate * o.weight_decay * p;
    }
    s0 = o.beta1 * s0 + (1 - o.beta1) * g;
    s1 = o.beta2 * s1 + (1 - o.beta2) * g * g;
    const double root = std::sqrt(s1 / (1 - std::pow(o.beta2, t)));
    p -= o.learning_rate * (s0 / (1 - std::pow(o.beta1, t))) / (root + o.epsilon);
  }
};

class Reference : public ::testing::TestWithParam<OptimizerKind> {};

TEST_P(Reference, AgreesWithDoublePrecision) {
  UpdateOptions options{.kind = GetParam(), .learning_rate = 3e-4, .weight_decay = 0.1};
  if (GetParam() == OptimizerKind::kLion) options.beta2 = 0.99;
  TileState state({.kind = GetParam()}, 1000, Values::kTraining, kSeed);
  state.clear_states();
  std::vector<Exact> exact;
  for (std::size_t i = 0; i < state.size(); ++i) exact.push_back({state.weight(i)});
  for (int step = 1; step <= 100; ++step) {
    state.new_gradients(kSeed + step);
    update_range_reference(UpdateConstants::at_step(options, step, kGradScale), state.planes(), 0,
                           state.size());
    for (std::size_t i = 0; i < state.size(); ++i) exact[i].step(options, step, state.gradient(i));
  }
  for (std::size_t i = 0; i < state.size(); ++i) {
    // 100 roundings of a number below 0.5 (ulp 2^-25) at most: 100 * 2^-26 = 1.5e-6.
    ASSERT_NEAR(state.weight(i), exact[i].p, 1.5e-6) << "element " << i;
    const double relative = GetParam() == OptimizerKind::kAdagrad ? 1e-5 : 1e-6;  // 100 sums, or 10
    ASSERT_NEAR(state.state(0, i), exact[i].s0, relative * (std::abs(exact[i].s0) + 1e-2));
    if (state_count(GetParam()) == 2) {
      ASSERT_NEAR(state.state(1, i), exact[i].s1, 1e-5 * exact[i].s1);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, Reference,
                         ::testing::Values(OptimizerKind::kAdamW, OptimizerKind::kAdam,
                                           OptimizerKind::kLion, OptimizerKind::kAdagrad));

// A gradient of zero and no momentum: nothing to take the sign of.
TEST(Lion, TheSignOfZeroIsZero) {
  TileState state({.kind = OptimizerKind::kLion}, 1, Values::kTraining, kSeed);
  state.clear_states();
  const float before = state.weight(0);
  const UpdateConstants constants = UpdateConstants::at_step(
      {.kind = OptimizerKind::kLion, .learning_rate = 0.1, .weight_decay = 0}, 1, 0.0f);
  update_range_reference(constants, state.planes(), 0, 1);
  EXPECT_EQ(state.weight(0), before);
}

}  // namespace
}  // namespace spillway::trainer
