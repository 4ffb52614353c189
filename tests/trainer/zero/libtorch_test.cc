// The same training written as a plain libtorch loop: one graph, all parameters in memory,
// torch::optim::AdamW, no micro-batches.
#include <gtest/gtest.h>
#include <torch/optim/adamw.h>

#include <cmath>

#include "tests/support/scratch.h"
#include "tests/trainer/support/modules.h"
#include "tests/trainer/support/tiny_gpt.h"
#include "trainer/base/seed.h"

namespace spillway::trainer::testing {
namespace {

constexpr int kSteps = 20;

torch::optim::AdamW make_adamw(const std::vector<std::shared_ptr<Unit>>& modules,
                               const OptimizerConfig& config, std::vector<at::Tensor>* all) {
  std::vector<at::Tensor> decayed, plain;
  for (const auto& module : modules) {
    for (const at::Tensor& parameter : module->parameters()) {
      (parameter.dim() >= 2 ? decayed : plain).push_back(parameter);
      all->push_back(parameter);
    }
  }
  const auto options = [&](double weight_decay) {
    return std::make_unique<torch::optim::AdamWOptions>(
        torch::optim::AdamWOptions(config.learning_rate)
            .betas({config.beta1, config.beta2})
            .eps(config.epsilon)
            .weight_decay(weight_decay));
  };
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(decayed, options(config.weight_decay));
  groups.emplace_back(plain, options(0.0));
  return torch::optim::AdamW(groups);
}

double clip(const std::vector<at::Tensor>& parameters, double max_norm) {
  double sum = 0;
  for (const at::Tensor& p : parameters) {
    sum += p.grad().to(at::kDouble).square().sum().item<double>();
  }
  const double norm = std::sqrt(sum);
  const double factor = std::min(1.0, max_norm / (norm + 1e-6));
  for (const at::Tensor& p : parameters) p.grad().mul_(factor);
  return norm;
}

Trace plain_libtorch(const Config& config, const GptConfig& gpt) {
  ModelSpec model;
  add_gpt(model, gpt);
  const auto modules = make_modules(model, config.seed);
  std::vector<at::Tensor> parameters;
  torch::optim::AdamW optimizer = make_adamw(modules, config.optimizer, &parameters);
  ForwardContext context;
  context.training = true;
  Trace trace;
  for (int step = 1; step <= kSteps; ++step) {
    const auto samples = static_cast<std::int64_t>(config.train_batch_size);
    const at::Tensor tokens = sample_tokens(step, samples, gpt.n_positions + 1, gpt.vocab_size);
    at::Tensor x = modules.front()->forward({tokens.narrow(1, 0, gpt.n_positions)}, context);
    for (std::size_t i = 1; i + 1 < modules.size(); ++i) x = modules[i]->forward({x}, context);
    ForwardContext head = context;
    if (gpt.tie_word_embeddings) head.borrowed = {modules.front()->parameters()[0]};
    const at::Tensor loss =
        modules.back()->forward({x, tokens.narrow(1, 1, gpt.n_positions)}, head).mean();
    optimizer.zero_grad();
    loss.backward();
    trace.losses.push_back(loss.item<double>());
    trace.grad_norms.push_back(clip(parameters, config.gradient_clipping));
    optimizer.step();
  }
  return trace;
}

class LibtorchTest : public ::testing::TestWithParam<bool> {};

TEST_P(LibtorchTest, TwentyLossesAgree) {
  Scratch scratch;
  const auto ranks = Communicator::from_environment(at::kCPU);
  Config config = tiny_training(scratch.path());
  config.dtype = Dtype::kFp32;
  config.optimizer.weight_decay = 0.1;
  config.offload_param.device = config.offload_optimizer.device = OffloadDevice::kNvme;
  GptConfig gpt = tiny_gpt();
  gpt.tie_word_embeddings = GetParam();
  const Trace expected = plain_libtorch(config, gpt);
  const Trace actual = train(config, gpt, *ranks, kSteps);
  for (int i = 0; i < kSteps; ++i) {
    EXPECT_NEAR(actual.losses[i], expected.losses[i], 1e-4 * expected.losses[i])
        << "step " << i + 1;
    EXPECT_NEAR(actual.grad_norms[i], expected.grad_norms[i], 1e-3 * expected.grad_norms[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Embeddings, LibtorchTest, ::testing::Values(true, false),
                         [](const auto& info) { return info.param ? "Tied" : "Untied"; });

}  // namespace
}  // namespace spillway::trainer::testing
