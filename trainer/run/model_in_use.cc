#include "trainer/run/model_in_use.h"

#include <utility>

namespace spillway::trainer {

ModelInUse::ModelInUse(const GptConfig& config) : config_(config), units_(add_gpt(spec_, config)) {}

std::uint64_t ModelInUse::boundary_elements() const noexcept {
  return std::uint64_t{config_.n_embd} * (config_.n_layer + 1);
}

at::Tensor ModelInUse::token_losses(zero::Pass& pass, const TokenBatch& batch) const {
  return gpt_token_losses(pass, units_, batch.tokens, batch.targets);
}

std::vector<std::int64_t> ModelInUse::generate(zero::Pass& pass, std::vector<std::int64_t> prompt,
                                               const GenerateOptions& options) const {
  return trainer::generate(pass, units_, config_.n_positions, std::move(prompt), options);
}

}  // namespace spillway::trainer
