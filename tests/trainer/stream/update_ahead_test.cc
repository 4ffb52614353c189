// The update during backward: the same bits whether it is kept or taken back.
#include <gtest/gtest.h>
#include <spillway/trainer/failure.h>

#include <limits>

#include "tests/support/scratch.h"
#include "tests/trainer/support/tiny_gpt.h"

namespace spillway::trainer::testing {
namespace {

constexpr int kSteps = 8;

class UpdateAheadTest : public ::testing::Test {
 protected:
  Config config(OffloadDevice param, std::uint64_t cached = 0) const {
    Config config = tiny_training(scratch_.path());
    config.gradient_clipping = 0;
    config.update_order = UpdateOrder::kBackward;
    config.offload_param.device = param;
    config.offload_optimizer.device = OffloadDevice::kNvme;
    config.offload_param.max_in_cpu_elements = cached;
    config.offload_optimizer.max_in_cpu_elements = cached;
    return config;
  }
  // Of the same training with all in memory.
  Trace expected(const GptConfig& gpt, double clipping = 0) {
    Config plain = tiny_training(scratch_.path());
    plain.gradient_clipping = clipping;
    return train(plain, gpt, *ranks_, kSteps);
  }
  static StepReport::SpeculativeTiles ahead(const std::vector<StepReport>& reports) {
    StepReport::SpeculativeTiles tiles;
    for (const StepReport& report : reports) {
      tiles.kept += report.speculative_tiles.kept;
      tiles.rolled_back += report.speculative_tiles.rolled_back;
    }
    return tiles;
  }

  Scratch scratch_;
  std::unique_ptr<Communicator> ranks_ = Communicator::from_environment(at::kCPU);
};

TEST_F(UpdateAheadTest, KeptItGivesTheSameBits) {
  for (const bool tied : {true, false}) {
    GptConfig gpt = tiny_gpt();
    gpt.tie_word_embeddings = tied;
    const Trace same = expected(gpt);
    for (const OffloadDevice param :
         {OffloadDevice::kNone, OffloadDevice::kCpu, OffloadDevice::kNvme}) {
      for (const std::uint64_t cached : {0, 40'000}) {
        SCOPED_TRACE(std::string(to_string(param)) + " " + std::to_string(cached));
        std::vector<StepReport> reports;
        EXPECT_EQ(train(config(param, cached), gpt, *ranks_, kSteps, &reports), same);
        EXPECT_EQ(reports[0].speculative_tiles.kept, 0u) << "the order is not known yet";
        EXPECT_GT(ahead(reports).kept, 0u);
        EXPECT_EQ(ahead(reports).rolled_back, 0u);
      }
    }
  }
}

TEST_F(UpdateAheadTest, TakenBackItGivesTheSameBits) {
  // A norm that some steps are above and some below.
  const Trace free = expected(tiny_gpt());
  std::vector<double> norms = free.grad_norms;
  std::sort(norms.begin(), norms.end());
  const double clipping = norms[kSteps / 2];
  const Trace same = expected(tiny_gpt(), clipping);
  ASSERT_NE(same, free);
  for (const OffloadDevice param : {OffloadDevice::kNone, OffloadDevice::kNvme}) {
    for (const std::uint64_t cached : {0, 40'000}) {
      SCOPED_TRACE(std::string(to_string(param)) + " " + std::to_string(cached));
      Config clipped = config(param, cached);
      clipped.gradient_clipping = clipping;
      std::vector<StepReport> reports;
      EXPECT_EQ(train(clipped, tiny_gpt(), *ranks_, kSteps, &reports), same);
      EXPECT_GT(ahead(reports).rolled_back, 0u);
      for (std::size_t i = 1; i < reports.size(); ++i) {
        if (reports[i - 1].grad_norm < clipping) continue;
        EXPECT_EQ(reports[i].speculative_tiles.kept + reports[i].speculative_tiles.rolled_back, 0u)
            << "step " << i + 1 << " follows one that was clipped: it is likely to be, too";
      }
    }
  }
}

TEST_F(UpdateAheadTest, OtherFormatsGiveTheBitsOfTheirOwnPlainOrder) {
  for (const StateDtype states : {StateDtype::kBf16, StateDtype::kInt8}) {
    for (const Dtype gradients : {Dtype::kFp32, Dtype::kBf16}) {
      Config ahead_config = config(OffloadDevice::kNvme);
      ahead_config.optimizer.state_dtype = states;
      ahead_config.gradients.dtype = gradients;
      Config plain = ahead_config;
      plain.update_order = UpdateOrder::kAfterBackward;
      std::vector<StepReport> reports;
      EXPECT_EQ(train(ahead_config, tiny_gpt(), *ranks_, kSteps, &reports),
                train(plain, tiny_gpt(), *ranks_, kSteps));
      EXPECT_GT(ahead(reports).kept, 0u);
    }
  }
}

TEST_F(UpdateAheadTest, GradientsOnNvmeAreUpdatedInForwardOrder) {
  Config spilled = config(OffloadDevice::kNvme);
  spilled.gradients.device = OffloadDevice::kNvme;
  spilled.gradients.nvme_path = scratch_.path();
  std::vector<StepReport> reports;
  EXPECT_EQ(train(spilled, tiny_gpt(), *ranks_, kSteps, &reports), expected(tiny_gpt()));
  EXPECT_EQ(ahead(reports).kept, 0u);
}

// A step whose gradients are no numbers changes nothing, though it had begun to.
TEST_F(UpdateAheadTest, AStepThatFailsLeavesTheStatesAsTheyWere) {
  ModelSpec model;
  const GptUnits units = add_gpt(model, tiny_gpt());
  ZeroEngine engine(config(OffloadDevice::kNvme), model, *ranks_, at::kCPU);
  const at::Tensor tokens = sample_tokens(1, 8, 33, 96);
  const auto losses = [&](zero::Pass& pass) {
    return gpt_token_losses(pass, units, tokens.narrow(1, 0, 32), tokens.narrow(1, 1, 32)).mean();
  };
  const auto loss_now = [&] {
    zero::Pass pass = engine.inference_pass();
    return losses(pass).item<double>();
  };
  for (int step = 0; step < 3; ++step) engine.step(losses);
  const double before = loss_now();
  EXPECT_THROW(engine.step([&](zero::Pass& pass) {
    // The loss is one, but for the last unit's gradients on.
    const at::Tensor loss = losses(pass);
    return loss + (loss - loss.detach()) * std::numeric_limits<float>::infinity();
  }),
               Failure);
  EXPECT_EQ(loss_now(), before);
  engine.step(losses);
  EXPECT_LT(loss_now(), before);
}

TEST_F(UpdateAheadTest, InferenceBetweenStepsSeesTheNewWeights) {
  const auto infer = [&](ZeroEngine& engine, const GptUnits& units) {
    zero::Pass pass = engine.inference_pass();
    EXPECT_EQ(generate(pass, units, 32, {1, 2, 3}, {.tokens = 4, .seed = 5}).size(), 7u);
  };
  EXPECT_EQ(train(config(OffloadDevice::kNvme), tiny_gpt(), *ranks_, kSteps, nullptr, infer),
            expected(tiny_gpt()));
}

}  // namespace
}  // namespace spillway::trainer::testing
