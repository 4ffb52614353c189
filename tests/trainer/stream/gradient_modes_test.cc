// Gradients in RAM and on NVMe, in fp32 and in bf16: the same bits wherever they wait, whatever
// graph they come from.
#include <gtest/gtest.h>

#include "tests/trainer/zero/graph_fixture.h"
#include "trainer/states/model_states.h"
#include "trainer/stream/gradient_store.h"
#include "trainer/zero/pass.h"

namespace spillway::trainer::testing {
namespace {

constexpr int kSteps = 8;
constexpr std::int64_t kSamples = 10;

class GradientModesTest : public GraphTest {
 protected:
  Config config(OffloadDevice gradients, Dtype dtype) const {
    Config config = tiny_training(scratch_.path());
    config.gradients.device = gradients;
    config.gradients.dtype = dtype;
    config.gradients.nvme_path = scratch_.path();
    return config;
  }
  Trace run(const Config& config, const GptConfig& gpt = tiny_gpt(),
            std::vector<StepReport>* reports = nullptr) {
    return train(config, gpt, *ranks_, kSteps, reports);
  }
  // Of the model with units that are used twice, in part or not at all.
  Trace own_model_trace(Config config, const Graph& graph) {
    config.train_batch_size = kSamples;
    config.micro_batch_size = 4;
    config.gradient_accumulation_steps = 3;
    config.sub_group_size = 500;
    return train_graph(config, graph, kSteps);
  }
  void expect_same_bits_on_nvme(const Graph& graph) {
    for (const Dtype dtype : {Dtype::kFp32, Dtype::kBf16}) {
      EXPECT_EQ(own_model_trace(config(OffloadDevice::kCpu, dtype), graph),
                own_model_trace(config(OffloadDevice::kNvme, dtype), graph));
    }
  }
};

TEST_F(GradientModesTest, NvmeGivesTheBitsOfRam) {
  for (const Dtype weights : {Dtype::kFp32, Dtype::kBf16}) {
    for (const Dtype gradients : {Dtype::kFp32, Dtype::kBf16}) {
      Config ram = config(OffloadDevice::kCpu, gradients);
      ram.dtype = weights;
      Config nvme = config(OffloadDevice::kNvme, gradients);
      nvme.dtype = weights;
      EXPECT_EQ(run(ram), run(nvme));
      nvme.offload_param.device = nvme.offload_optimizer.device = OffloadDevice::kNvme;
      nvme.sub_group_size = 3000;
      EXPECT_EQ(run(ram), run(nvme)) << "with all else on NVMe too, in smaller tiles";
    }
  }
}

TEST_F(GradientModesTest, OnlyRoundingSetsBf16Apart) {
  const Trace exact = run(config(OffloadDevice::kCpu, Dtype::kFp32));
  const Trace rounded = run(config(OffloadDevice::kCpu, Dtype::kBf16));
  EXPECT_EQ(exact.losses[0], rounded.losses[0]);
  EXPECT_EQ(exact.grad_norms[0], rounded.grad_norms[0]) << "the norm is of the sums";
  EXPECT_NE(exact.losses, rounded.losses) << "they were not rounded";
  for (int i = 0; i < kSteps; ++i) {
    EXPECT_NEAR(exact.losses[i], rounded.losses[i], 0.02 * exact.losses[i]);
  }
}

TEST_F(GradientModesTest, EveryByteIsCounted) {
  std::vector<StepReport> fp32, bf16, ram;
  run(config(OffloadDevice::kNvme, Dtype::kFp32), tiny_gpt(), &fp32);
  run(config(OffloadDevice::kNvme, Dtype::kBf16), tiny_gpt(), &bf16);
  run(config(OffloadDevice::kCpu, Dtype::kFp32), tiny_gpt(), &ram);
  const std::uint64_t parameters = parameter_count(tiny_gpt());
  EXPECT_EQ(ram[2].nvme_read_bytes + ram[2].nvme_written_bytes, 0u);
  EXPECT_GE(fp32[2].nvme_written_bytes, 4 * parameters);
  EXPECT_GE(fp32[2].nvme_read_bytes, 4 * parameters);
  // Small tiles: their last page is padding.
  EXPECT_LT(fp32[2].nvme_written_bytes, 4.6 * parameters);
  EXPECT_GE(bf16[2].nvme_written_bytes, 2 * parameters);
  EXPECT_LT(bf16[2].nvme_written_bytes, 2.6 * parameters);
}

TEST_F(GradientModesTest, MemoryHoldsSumsOfOneUnitNotOfAll) {
  Config nvme = config(OffloadDevice::kNvme, Dtype::kFp32);
  GptConfig gpt = tiny_gpt();
  gpt.n_layer = 6;
  gpt.tie_word_embeddings = false;
  std::uint64_t held = 0, stored = 0;
  train(nvme, gpt, *ranks_, 2, nullptr, [&](ZeroEngine& engine, const GptUnits&) {
    held = engine.gradients().memory_bytes() + engine.gradients().peak_sum_bytes();
    stored = engine.gradients().storage_bytes();
    EXPECT_TRUE(engine.gradients().on_nvme());
  });
  const std::uint64_t all = 4 * parameter_count(gpt);
  EXPECT_GE(stored, all);
  EXPECT_LT(held, all / 4);
  EXPECT_GT(held, all / 16);
}

TEST_F(GradientModesTest, UnitsWithSeveralUsersAndUnusedParameters) {
  expect_same_bits_on_nvme(run_all);
}

TEST_F(GradientModesTest, AUnitThatOnlySomeStepsUse) {
  expect_same_bits_on_nvme([](zero::Pass& pass, const Samples& samples) {
    if (pass.state()->step % 3 == 0) return run_all(pass, samples);
    const at::Tensor lifted = zero::run(pass, kLift, {samples.points});
    return zero::run(pass, kResidual, {lifted}).square().mean();
  });
}

TEST_F(GradientModesTest, ARunThatBackwardNeverReaches) {
  expect_same_bits_on_nvme([](zero::Pass& pass, const Samples& samples) {
    const at::Tensor lifted = zero::run(pass, kLift, {samples.points});
    const at::Tensor residual = zero::run(pass, kResidual, {lifted});
    const at::Tensor dropped = zero::run(pass, kResidual, {residual});
    return residual.square().mean() + 0 * dropped.detach().sum();
  });
}

TEST_F(GradientModesTest, MoreMayComeAfterAGradientWasFinal) {
  // As when a loss runs a backward of its own before the one that the engine runs.
  const auto norm = [&](OffloadDevice device, Dtype dtype, bool at_once) {
    Config config = this->config(device, dtype);
    config.sub_group_size = 500;
    ModelStates states(config, own_model(), *ranks_, at::kCPU);
    GradientStore store(states);
    for (int step = 0; step < 2; ++step) {
      store.clear();
      auto first = store.expect({kGate});
      auto second = at_once ? store.expect({kGate}) : GradientStore::Expected();
      store.add(kGate, 0, at::full({kWidth, kWidth}, 1.5));
      first.end();
      store.flush(kGate);
      if (!at_once) second = store.expect({kGate});
      store.add(kGate, 0, at::full({kWidth, kWidth}, 0.25));
      store.add(kGate, 1, at::ones({kWidth}));
      second.end();
      store.flush(kGate);
    }
    return store.squared_norm();
  };
  const double expected = kWidth * kWidth * 1.75 * 1.75 + kWidth;
  for (const OffloadDevice device : {OffloadDevice::kCpu, OffloadDevice::kNvme}) {
    for (const Dtype dtype : {Dtype::kFp32, Dtype::kBf16}) {
      EXPECT_EQ(norm(device, dtype, true), expected);
      EXPECT_EQ(norm(device, dtype, false), expected);
    }
  }
}

TEST_F(GradientModesTest, ItIsSaidThatTheyAreOnNvme) {
  const Config nvme = config(OffloadDevice::kNvme, Dtype::kBf16);
  ModelSpec model;
  add_gpt(model, tiny_gpt());
  const ZeroEngine engine(nvme, model, *ranks_, at::kCPU);
  const auto& notes = engine.states().tiers().notes();
  EXPECT_EQ(std::count_if(notes.begin(), notes.end(),
                          [](const std::string& note) {
                            return note.starts_with("gradients: on NVMe in bf16, ");
                          }),
            1);
}

}  // namespace
}  // namespace spillway::trainer::testing
