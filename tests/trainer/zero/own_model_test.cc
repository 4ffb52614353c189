// A user's own model against plain libtorch, in fp32, and against itself with its states elsewhere.
#include "tests/trainer/support/own_model.h"
#include "trainer/zero/pass.h"

#include <gtest/gtest.h>
#include <spillway/trainer/failure.h>
#include <torch/optim/adamw.h>

#include <cmath>
#include <limits>
#include <map>

#include "tests/support/scratch.h"
#include "tests/trainer/support/modules.h"

namespace spillway::trainer::testing {
namespace {

constexpr int kSteps = 12;
constexpr std::int64_t kSamples = 16;
constexpr std::int64_t kMicroBatch = 5;  // the last chunk is shorter
using Values = std::map<std::string, at::Tensor>;

void expect_close(const at::Tensor& actual, const at::Tensor& expected, const std::string& what) {
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  const double difference = (actual - expected).norm().item<double>();
  EXPECT_LE(difference, 1e-5 * expected.norm().item<double>()) << what;
}

// What training leaves behind, to be compared bit by bit.
struct Trained {
  std::vector<double> losses, grad_norms;
  std::vector<StepReport> reports;
  Values gradients;  // of the last step, fp32
  Values initial, values;
};

class OwnModelTest : public ::testing::Test {
 protected:
  Config config(OffloadDevice device, Dtype dtype) const {
    Config config;
    config.train_batch_size = kSamples;
    config.micro_batch_size = kMicroBatch;
    config.gradient_accumulation_steps = 4;
    config.dtype = dtype;
    config.gradient_clipping = 0;
    config.sub_group_size = 500;  // several tiles a unit
    config.offload_param.device = config.offload_optimizer.device = device;
    config.offload_param.nvme_path = config.offload_optimizer.nvme_path = scratch_.path();
    config.optimizer.learning_rate = 1e-2;
    config.optimizer.weight_decay = 0.1;
    config.seed = 5;
    return config;
  }

  // Every parameter by "unit.name", as the forward sees it.
  static Values values_of(ZeroEngine& engine) {
    const zero::Pass begun = engine.inference_pass();
    const zero::PassState& pass = *begun.state();
    Values values;
    for (UnitId id = 0; id < pass.states->units().size(); ++id) {
      pass.fetcher->acquire(id, Phase::kForward);
      const auto& unit = pass.states->units()[id];
      for (std::size_t i = 0; i < unit.parameters.size(); ++i) {
        values[unit.partition.name() + "." + unit.partition.parameters()[i].name] =
            unit.parameters[i].detach().clone();
      }
      pass.fetcher->release(id);
    }
    return values;
  }

  static Values gradients_of(const zero::Pass& last) {
    const zero::PassState& pass = *last.state();
    Values gradients;
    for (UnitId id = 0; id < pass.states->units().size(); ++id) {
      const UnitPartition& partition = pass.states->units()[id].partition;
      const at::Tensor flat = pass.gradients->part(id);
      for (std::size_t i = 0; i < partition.parameters().size(); ++i) {
        const ParameterInfo& info = partition.parameters()[i];
        if (info.frozen) continue;
        gradients[partition.name() + "." + info.name] =
            flat.narrow(0, partition.parameter_offset(i), info.elements).view(info.shape).clone();
      }
    }
    return gradients;
  }

  Trained train(const Config& config, int steps = kSteps) {
    ZeroEngine engine(config, own_model(), *ranks_, at::kCPU);
    Trained trained;
    trained.initial = values_of(engine);
    for (int step = 1; step <= steps; ++step) {
      const Samples samples = samples_of(step, kSamples);
      trained.reports.push_back(engine.step([&](zero::Pass& pass) {
        const auto run = [&](UnitId unit, const std::vector<at::Tensor>& inputs) {
          return zero::run(pass, unit, inputs);
        };
        last_pass_ = pass;
        return own_losses(run, samples.points, samples.wanted).sum() / kSamples;
      }));
      trained.losses.push_back(trained.reports.back().loss);
      trained.grad_norms.push_back(trained.reports.back().grad_norm);
      if (step == steps) trained.gradients = gradients_of(last_pass_);
    }
    trained.values = values_of(engine);
    return trained;
  }

  // The first step's gradients by the engine and by plain autograd.
  void compare_gradients(const std::vector<std::string>& names) {
    const Trained trained = train(config(OffloadDevice::kNvme, Dtype::kFp32), 1);
    const ModelSpec model = own_model();
    const auto modules = make_modules(model, 5);
    const Samples samples = samples_of(1, kSamples);
    plain_losses(modules, samples.points, samples.wanted).mean().backward();
    Values expected;
    for (UnitId id = 0; id < modules.size(); ++id) {
      for (const auto& item : modules[id]->named_parameters()) {
        if (item->requires_grad() && item->grad().defined()) {
          expected[model.units()[id].name + "." + item.key()] = item->grad();
        }
      }
    }
    for (const std::string& name : names) {
      ASSERT_TRUE(expected.contains(name) && trained.gradients.contains(name)) << name;
      EXPECT_GT(expected[name].norm().item<double>(), 0) << name;
      expect_close(trained.gradients.at(name), expected[name], name);
    }
  }

  Scratch scratch_;
  std::unique_ptr<Communicator> ranks_ = Communicator::from_environment(at::kCPU);
  zero::Pass last_pass_;
};

void expect_same(const Values& expected, const Values& actual) {
  ASSERT_EQ(expected.size(), actual.size());
  for (const auto& [name, value] : expected) EXPECT_TRUE(value.equal(actual.at(name))) << name;
}

TEST_F(OwnModelTest, TheSameBitsInMemoryAndOnNvme) {
  for (const Dtype dtype : {Dtype::kFp32, Dtype::kBf16}) {
    const Trained memory = train(config(OffloadDevice::kNone, dtype));
    const Trained nvme = train(config(OffloadDevice::kNvme, dtype));
    EXPECT_LT(memory.losses.back(), memory.losses.front()) << "it must learn";
    Config graph_kept = config(OffloadDevice::kNvme, dtype);
    graph_kept.activations.checkpointing = false;
    const Trained kept = train(graph_kept);
    EXPECT_EQ(memory.losses, kept.losses);
    expect_same(memory.gradients, kept.gradients);
    expect_same(memory.values, kept.values);
    EXPECT_EQ(memory.losses, nvme.losses);
    EXPECT_EQ(memory.grad_norms, nvme.grad_norms);
    expect_same(memory.gradients, nvme.gradients);
    expect_same(memory.values, nvme.values);
  }
}

TEST_F(OwnModelTest, AGraphThatIsKeptReadsTheSameBytes) {
  Config config = this->config(OffloadDevice::kNvme, Dtype::kBf16);
  config.update_order = UpdateOrder::kAfterBackward;  // else some weights are not read, by chance
  const Trained recomputed = train(config, 3);
  config.activations.checkpointing = false;
  const Trained kept = train(config, 3);
  // From the second step on weights are read ahead, and by chance some are let go again.
  EXPECT_GT(kept.reports[0].nvme_read_bytes, 0u);
  EXPECT_EQ(recomputed.reports[0].nvme_read_bytes, kept.reports[0].nvme_read_bytes);
  for (const std::size_t step : {0u, 1u, 2u}) {
    EXPECT_EQ(recomputed.reports[step].nvme_written_bytes, kept.reports[step].nvme_written_bytes);
  }
}

TEST_F(OwnModelTest, AGradientThatIsNotFiniteUpdatesNothing) {
  for (const OffloadDevice device : {OffloadDevice::kNone, OffloadDevice::kNvme}) {
    for (const StateDtype states : {StateDtype::kFp32, StateDtype::kInt8}) {
      Config config = this->config(device, Dtype::kBf16);
      config.optimizer.state_dtype = states;
      ZeroEngine engine(config, own_model(), *ranks_, at::kCPU);
      const auto step = [&](double scale) {
        const Samples samples = samples_of(1, kSamples);
        return engine.step([&](zero::Pass& pass) {
          const auto run = [&](UnitId unit, const std::vector<at::Tensor>& inputs) {
            return zero::run(pass, unit, inputs);
          };
          return own_losses(run, samples.points, samples.wanted).mean() * scale;
        });
      };
      step(1);
      const Values before = values_of(engine);
      EXPECT_THROW(step(std::numeric_limits<double>::infinity()), Failure);
      expect_same(before, values_of(engine));
      EXPECT_TRUE(std::isfinite(step(1).loss));
      EXPECT_FALSE(before.at("gate.gate.weight").equal(values_of(engine).at("gate.gate.weight")));
      EXPECT_TRUE(std::isfinite(step(1).loss)) << "nor did it reach the moments";
    }
  }
}

TEST_F(OwnModelTest, AUnitUsedTwiceSumsItsGradients) {
  compare_gradients({"residual.in.weight", "residual.out.weight", "residual.out.bias"});
}

TEST_F(OwnModelTest, AUnitOfThreeInputs) {
  compare_gradients(
      {"gate.gate.weight", "gate.gate.bias", "gate.direct.weight", "gate.direct.bias"});
}

TEST_F(OwnModelTest, ALenderAndABorrower) {
  compare_gradients({"residual.in.weight", "readout.value.weight", "readout.value.bias"});
}

TEST_F(OwnModelTest, OneAndSixteenChunksGiveTheSameGradients) {
  Config whole = config(OffloadDevice::kNvme, Dtype::kFp32);
  whole.micro_batch_size = kSamples;
  whole.gradient_accumulation_steps = 1;
  whole.update_order = UpdateOrder::kAfterBackward;  // the step's report has all its bytes
  const Trained one = train(whole, 1);
  for (const std::uint64_t chunks : {4u, 16u}) {
    Config cut = whole;
    cut.micro_batch_size = kSamples / chunks;
    cut.gradient_accumulation_steps = chunks;
    const Trained many = train(cut, 1);
    for (const auto& [name, gradient] : one.gradients) {
      const double difference = (many.gradients.at(name) - gradient).norm().item<double>();
      EXPECT_LE(difference, 1e-6 * gradient.norm().item<double>()) << name << ", " << chunks;
    }
    EXPECT_EQ(many.reports[0].nvme_read_bytes, one.reports[0].nvme_read_bytes);
    EXPECT_EQ(many.reports[0].nvme_written_bytes, one.reports[0].nvme_written_bytes);
  }
}

TEST_F(OwnModelTest, UnusedParametersHaveZeroGradientsInEveryStep) {
  const Trained trained = train(config(OffloadDevice::kNvme, Dtype::kFp32));
  for (const char* name : {"gate.unused.weight", "gate.unused.bias"}) {
    EXPECT_EQ(trained.gradients.at(name).count_nonzero().item<std::int64_t>(), 0) << name;
  }
  // Only decay moves the weight: (1 - lr decay) each step. A bias has none.
  const at::Tensor decayed =
      trained.initial.at("gate.unused.weight") * std::pow(1 - 1e-2 * 0.1, kSteps);
  expect_close(trained.values.at("gate.unused.weight"), decayed, "decay alone");
  EXPECT_TRUE(trained.values.at("gate.unused.bias").equal(trained.initial.at("gate.unused.bias")));
}

TEST_F(OwnModelTest, AUnitUsedInOneStepOnlyHasZeroGradientsInTheNext) {
  ZeroEngine engine(config(OffloadDevice::kNvme, Dtype::kFp32), own_model(), *ranks_, at::kCPU);
  const Samples samples = samples_of(1, kSamples);
  const auto run = [&](UnitId unit, const std::vector<at::Tensor>& inputs) {
    return zero::run(last_pass_, unit, inputs);
  };
  engine.step([&](zero::Pass& pass) {
    last_pass_ = pass;
    return own_losses(run, samples.points, samples.wanted).mean();
  });
  EXPECT_GT(gradients_of(last_pass_).at("gate.gate.weight").norm().item<double>(), 0);
  engine.step([&](zero::Pass& pass) {
    last_pass_ = pass;
    return run(kResidual, {run(kLift, {samples.points})}).square().mean();
  });
  for (const auto& [name, gradient] : gradients_of(last_pass_)) {
    const bool used = name.starts_with("residual.");
    EXPECT_EQ(gradient.count_nonzero().item<std::int64_t>() > 0, used) << name;
  }
}

// The update of the step before may still read the gradients that it would write to.
TEST_F(OwnModelTest, AFunctionThatRunsBackwardItselfIsRefused) {
  ZeroEngine engine(config(OffloadDevice::kNvme, Dtype::kFp32), own_model(), *ranks_, at::kCPU);
  const Samples samples = samples_of(1, kSamples);
  bool backward = false;
  const auto step = [&] {
    return engine.step([&](zero::Pass& pass) {
      const auto run = [&](UnitId unit, const std::vector<at::Tensor>& inputs) {
        return zero::run(pass, unit, inputs);
      };
      const at::Tensor loss = own_losses(run, samples.points, samples.wanted).mean();
      if (backward) loss.backward();
      return loss;
    });
  };
  for (const int round : {1, 2}) {
    backward = true;
    EXPECT_THROW(step(), Failure) << "round " << round;
    backward = false;
    EXPECT_GT(step().grad_norm, 0) << "round " << round;
  }
}

TEST_F(OwnModelTest, FrozenParametersKeepTheirBits) {
  for (const Dtype dtype : {Dtype::kFp32, Dtype::kBf16}) {
    const Trained trained = train(config(OffloadDevice::kNvme, dtype));
    for (const auto& [name, value] : trained.values) {
      const bool frozen = name.starts_with("lift.") || name == "residual.in.bias";
      EXPECT_EQ(value.equal(trained.initial.at(name)), frozen || name == "gate.unused.bias")
          << name;
      EXPECT_EQ(trained.gradients.contains(name), !frozen) << name;
    }
  }
}

TEST_F(OwnModelTest, FrozenParametersHaveNoOptimizerTiles) {
  Config whole = config(OffloadDevice::kNvme, Dtype::kBf16);
  whole.sub_group_size = 1 << 20;  // a tile for each section of a unit
  const ZeroEngine engine(whole, own_model(), *ranks_, at::kCPU);
  const StateTiers& tiers = engine.states().tiers();
  EXPECT_EQ(tiers.weights().tile_count(), 5u);    // residual has two: it is partly frozen
  EXPECT_EQ(tiers.optimizer().tile_count(), 3u);  // residual, gate, readout
  std::uint64_t stated = 0, trainable = 0;
  for (swapper::TileId tile = 0; tile < tiers.optimizer().tile_count(); ++tile) {
    stated += tiers.optimizer().tile_elements(tile);
  }
  for (const auto& unit : engine.states().units()) {
    trainable += unit.partition.full_elements(kTrainable);
  }
  EXPECT_EQ(stated, trainable);
}

TEST_F(OwnModelTest, LossesAgreeWithPlainLibtorchAndItsAdamW) {
  const Config nvme = config(OffloadDevice::kNvme, Dtype::kFp32);
  const Trained trained = train(nvme);
  const ModelSpec model = own_model();
  const auto modules = make_modules(model, nvme.seed);
  std::vector<at::Tensor> decayed, plain;
  for (const auto& module : modules) {
    for (const at::Tensor& p : module->parameters()) {
      if (p.requires_grad()) (p.dim() >= 2 ? decayed : plain).push_back(p);
    }
  }
  const auto options = [&](double decay) {
    return std::make_unique<torch::optim::AdamWOptions>(
        torch::optim::AdamWOptions(nvme.optimizer.learning_rate).weight_decay(decay));
  };
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(decayed, options(nvme.optimizer.weight_decay));
  groups.emplace_back(plain, options(0.0));
  torch::optim::AdamW optimizer(groups);
  for (int step = 1; step <= kSteps; ++step) {
    const Samples samples = samples_of(step, kSamples);
    const at::Tensor loss = plain_losses(modules, samples.points, samples.wanted).mean();
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    const auto expected = loss.item<double>();
    EXPECT_NEAR(trained.losses[step - 1], expected, 1e-5 * expected) << "step " << step;
  }
}

}  // namespace
}  // namespace spillway::trainer::testing
