#include "trainer/run/model_in_use.h"

#include <numeric>
#include <utility>

namespace spillway::trainer {

ModelInUse::ModelInUse(const ModelConfig& config)
    : shape_(config.shape()), units_(add_units(spec_, config)) {}

std::uint64_t ModelInUse::boundary_elements() const {
  const std::vector<std::uint64_t> widths = waiting_widths(shape_);
  return std::accumulate(widths.begin(), widths.end(), std::uint64_t{0});
}

at::Tensor ModelInUse::token_losses(zero::Pass& pass, const TokenBatch& batch) const {
  return units_->token_losses(pass, {.inputs = batch.tokens, .targets = batch.targets});
}

std::vector<std::int64_t> ModelInUse::generate(zero::Pass& pass, std::vector<std::int64_t> prompt,
                                               const GenerateOptions& options) const {
  return trainer::generate(pass, *units_, shape_.context, std::move(prompt), options);
}

}  // namespace spillway::trainer
