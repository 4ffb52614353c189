#include "tools/spillway/train/initial.h"

#include <fmt/format.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/initial_weights.h>

#include <chrono>

namespace spillway::tools {

void add_initial_option(CLI::App& command, TrainOptions& options) {
  command.add_option(
      "--init-from", options.init_from,
      "Begin with the weights of this directory: safetensors of a GPT-2 (one file or several) and "
      "config.json, which gives the model; --model, if it is given too, must have the same sizes, "
      "and gives the dropout. Where a checkpoint is resumed, that counts");
}

TrainInitialWeights::TrainInitialWeights(const TrainOptions& options, const TrainInputs& inputs)
    : weights_(
          trainer::value_or_throw(trainer::Gpt2Weights::open(options.init_from, inputs.model))) {}

std::string TrainInitialWeights::set(trainer::ZeroEngine& engine) {
  const auto start = std::chrono::steady_clock::now();
  trainer::set_initial_weights(
      engine.quiet_states(),
      [&](const std::string& parameter, std::uint64_t first, std::span<float> to) {
        return weights_.read(parameter, first, to);
      });
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  return fmt::format("weights of {}: {} tensors of {} in {} {}, {:.1f} s",
                     weights_.directory().string(), weights_.tensor_count(), weights_.dtypes(),
                     weights_.file_count(), weights_.file_count() == 1 ? "file" : "files",
                     took.count());
}

}  // namespace spillway::tools
