// A GPT small enough that twenty steps take a second, and its training in any mode.
#pragma once

#include <ATen/Functions.h>
#include <spillway/trainer/zero_engine.h>
#include "trainer/base/seed.h"
#include "trainer/models/gpt2/model.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

namespace spillway::trainer::testing {

inline GptConfig tiny_gpt() {
  GptConfig config;
  config.n_layer = 2;
  config.n_embd = 64;
  config.n_head = 4;
  config.n_positions = 32;
  config.vocab_size = 96;
  config.tie_word_embeddings = true;
  return config;
}

inline Config tiny_training(const std::filesystem::path& directory) {
  Config config;
  config.train_batch_size = 8;
  config.micro_batch_size = 2;
  config.gradient_accumulation_steps = 4;
  config.dtype = Dtype::kBf16;
  config.sub_group_size = 10'000;  // several tiles a unit, uneven tails
  config.offload_param.nvme_path = directory;
  config.offload_optimizer.nvme_path = directory;
  config.optimizer.learning_rate = 3e-3;
  config.seed = 7;
  config.update_order = UpdateOrder::kAfterBackward;  // a step's bytes are moved within it
  return config;
}

// Tokens that a model can learn something about: a noisy cycle through the vocabulary.
inline at::Tensor sample_tokens(std::uint64_t step, std::int64_t samples, std::int64_t length,
                                std::int64_t vocabulary) {
  at::Tensor tokens = at::empty({samples, length}, at::kLong);
  auto* out = tokens.data_ptr<std::int64_t>();
  for (std::int64_t s = 0; s < samples; ++s) {
    const std::uint64_t start = derive_seed(11, step, s);
    for (std::int64_t i = 0; i < length; ++i) {
      const std::uint64_t noise = derive_seed(12, step, s, i) % 5 == 0 ? 3 : 0;
      out[s * length + i] = static_cast<std::int64_t>((start + i * 2 + noise) % vocabulary);
    }
  }
  return tokens;
}

struct Trace {
  std::vector<double> losses;
  std::vector<double> grad_norms;
  bool operator==(const Trace&) const = default;
};

// Trains `steps` steps on this rank's share of each global batch.
inline Trace train(const Config& config, const GptConfig& gpt, Communicator& ranks, int steps,
                   std::vector<StepReport>* reports = nullptr,
                   const std::function<void(ZeroEngine&, const GptUnits&)>& after_step = {}) {
  ModelSpec model;
  const GptUnits units = add_gpt(model, gpt);
  ZeroEngine engine(config, model, ranks, at::kCPU);
  const std::int64_t length = gpt.n_positions;
  const auto global = static_cast<std::int64_t>(config.train_batch_size);
  const std::int64_t local = global / ranks.world_size();
  Trace trace;
  for (int step = 1; step <= steps; ++step) {
    const at::Tensor tokens = sample_tokens(step, global, length + 1, gpt.vocab_size)
                                  .narrow(0, ranks.rank() * local, local);
    const StepReport report = engine.step([&](zero::Pass& pass) {
      return gpt_token_losses(pass, units, tokens.narrow(1, 0, length), tokens.narrow(1, 1, length))
                 .sum() /
             static_cast<double>(global * length);
    });
    trace.losses.push_back(report.loss);
    trace.grad_norms.push_back(report.grad_norm);
    if (reports != nullptr) reports->push_back(report);
    if (after_step) after_step(engine, units);
  }
  return trace;
}

}  // namespace spillway::trainer::testing
