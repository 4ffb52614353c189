// Units used in orders other than once forward and once back: what is read ahead is then predicted
// wrongly, or asked for while something else is under way. Losses must not notice.
#include <gtest/gtest.h>

#include "tests/trainer/zero/graph_fixture.h"

namespace spillway::trainer::testing {
namespace {

constexpr int kSteps = 5;
constexpr std::int64_t kSamples = 8;

struct Stop final : Unit {  // passes on a value without its gradient
  torch::nn::Linear scale = register_module("scale", torch::nn::Linear(kWidth, kWidth));
  Stop() {
    for (at::Tensor& p : parameters()) p.requires_grad_(false);
  }
  at::Tensor forward(const std::vector<at::Tensor>& inputs, const ForwardContext&) override {
    return scale(inputs[0].detach());
  }
};

constexpr UnitId kStop = 4;

class GraphOrdersTest : public GraphTest {
 protected:
  using Between = std::function<void(ZeroEngine&)>;

  std::vector<double> losses(OffloadDevice device, const Graph& graph, const Between& between = {},
                             const ActivationConfig& activations = {}) const {
    Config config;
    config.activations = activations;
    config.train_batch_size = config.micro_batch_size = kSamples;
    config.sub_group_size = 300;  // several tiles a unit
    config.offload_param.device = config.offload_optimizer.device = device;
    config.offload_param.nvme_path = config.offload_optimizer.nvme_path = scratch_.path();
    ModelSpec model = own_model();
    model.add({"stop", [] { return std::make_shared<Stop>(); }, {}});
    ZeroEngine engine(config, model, *ranks_, at::kCPU);
    std::vector<double> losses;
    for (int step = 1; step <= kSteps; ++step) {
      const Samples samples = samples_of(step, kSamples);
      const auto loss_of = [&](zero::Pass& pass) { return graph(pass, samples); };
      losses.push_back(engine.step(loss_of).loss);
      if (between) between(engine);
    }
    return losses;
  }

  void expect_same_bits(const Graph& graph, const Between& between = {}) const {
    const std::vector<double> expected = losses(OffloadDevice::kNone, graph);
    EXPECT_EQ(expected, losses(OffloadDevice::kNvme, graph, between));
    ActivationConfig kept;
    kept.checkpointing = false;
    EXPECT_EQ(expected, losses(OffloadDevice::kNvme, graph, between, kept))
        << "with the graph kept";
  }
};

TEST_F(GraphOrdersTest, TheModelRunsTwiceInOneStep) {
  expect_same_bits([](zero::Pass& pass, const Samples& samples) {
    const Samples other{samples.points.neg(), samples.wanted};
    return run_all(pass, samples) + run_all(pass, other);
  });
}

TEST_F(GraphOrdersTest, UnitsAlternate) {
  expect_same_bits([](zero::Pass& pass, const Samples& samples) {
    at::Tensor x = zero::run(pass, kLift, {samples.points});
    for (int i = 0; i < 3; ++i) {
      x = zero::run(pass, kResidual, {x});
      x = zero::run(pass, kGate, {x, x, samples.points});
    }
    return x.square().mean();
  });
}

TEST_F(GraphOrdersTest, SeveralForwardsOfOneInferencePassBetweenSteps) {
  const auto infer = [](ZeroEngine& engine) {
    zero::Pass pass = engine.inference_pass();
    for (int i = 0; i < 3; ++i) run_all(pass, samples_of(100 + i, kSamples));
  };
  expect_same_bits(run_all, infer);
}

TEST_F(GraphOrdersTest, AnInferencePassInsideAStep) {
  const Graph graph = [](zero::Pass& pass, const Samples& samples) {
    const at::NoGradGuard no_graph;
    const at::Tensor weight = run_all(pass, samples).detach();
    const at::AutoGradMode record(true);
    return run_all(pass, samples) * weight;
  };
  expect_same_bits(graph);
}

TEST_F(GraphOrdersTest, NoGradientComesFromWhereItStopped) {
  // Only the direct way to the loss counts, so the losses are those without the other.
  const auto lifted = [](zero::Pass& pass, const Samples& samples) {
    return zero::run(pass, kResidual, {zero::run(pass, kLift, {samples.points})});
  };
  const Graph direct = [&](zero::Pass& pass, const Samples& samples) {
    return lifted(pass, samples).square().mean();
  };
  const Graph both = [&](zero::Pass& pass, const Samples& samples) {
    const at::Tensor stopped = zero::run(pass, kStop, {lifted(pass, samples)});
    return direct(pass, samples) + 0 * stopped.sum();
  };
  EXPECT_EQ(losses(OffloadDevice::kNvme, direct), losses(OffloadDevice::kNvme, both));
}

}  // namespace
}  // namespace spillway::trainer::testing
