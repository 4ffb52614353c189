#include "trainer/run/initial_weights.h"

#include <spillway/trainer/checkpoint_states.h>
#include <spillway/trainer/failure.h>

#include <chrono>

namespace spillway::trainer {

InitialWeights::InitialWeights(const std::filesystem::path& directory, const ModelConfig& model)
    : weights_(value_or_throw(HuggingFaceWeights::open(directory, model))) {}

InitialWeightsLoaded InitialWeights::load(ZeroEngine& engine) {
  const auto start = std::chrono::steady_clock::now();
  set_initial_weights(engine.quiet_states(),
                      [&](const std::string& parameter, std::uint64_t first, std::span<float> to) {
                        return weights_.read(parameter, first, to);
                      });
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  return {.directory = weights_.directory(),
          .tensors = weights_.tensor_count(),
          .dtypes = weights_.dtypes(),
          .files = weights_.file_count(),
          .seconds = took.count()};
}

}  // namespace spillway::trainer
