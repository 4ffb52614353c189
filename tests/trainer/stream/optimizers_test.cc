// Every optimizer and state format trains, with the same bits wherever the states live and however
// they are cut into tiles.
#include <gtest/gtest.h>

#include "tests/support/scratch.h"
#include "tests/trainer/support/tiny_gpt.h"

namespace spillway::trainer::testing {
namespace {

constexpr int kSteps = 8;

struct Case {
  const char* name;
  OptimizerKind kind;
  StateDtype states;
  double learning_rate;
};

class OptimizersTest : public ::testing::TestWithParam<Case> {
 protected:
  Trace run(OffloadDevice device, std::uint64_t tile_elements) {
    Config config = tiny_training(scratch_.path());
    config.optimizer.kind = GetParam().kind;
    config.optimizer.state_dtype = GetParam().states;
    config.optimizer.learning_rate = GetParam().learning_rate;
    config.offload_param.device = config.offload_optimizer.device = device;
    config.offload_optimizer.max_in_cpu_elements = 0;
    config.sub_group_size = tile_elements;
    return train(config, tiny_gpt(), *ranks_, kSteps);
  }

  Scratch scratch_;
  std::unique_ptr<Communicator> ranks_ = Communicator::from_environment(at::kCPU);
};

TEST_P(OptimizersTest, LearnsWithTheSameBitsInMemoryAndOnNvme) {
  const Trace expected = run(OffloadDevice::kNone, 1'000'000'000);
  EXPECT_LT(expected.losses.back(), 0.98 * expected.losses.front()) << "it must learn";
  for (const std::uint64_t elements : {777, 10'000}) {  // with int8 states 768 and 9984
    EXPECT_EQ(run(OffloadDevice::kNvme, elements), expected) << elements;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, OptimizersTest,
    ::testing::Values(Case{"Adam", OptimizerKind::kAdam, StateDtype::kFp32, 3e-3},
                      Case{"Lion", OptimizerKind::kLion, StateDtype::kFp32, 1e-3},
                      Case{"Adagrad", OptimizerKind::kAdagrad, StateDtype::kFp32, 1e-2},
                      Case{"AdamWBf16", OptimizerKind::kAdamW, StateDtype::kBf16, 3e-3},
                      Case{"AdamWInt8", OptimizerKind::kAdamW, StateDtype::kInt8, 3e-3},
                      Case{"LionInt8", OptimizerKind::kLion, StateDtype::kInt8, 1e-3}),
    [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace spillway::trainer::testing
