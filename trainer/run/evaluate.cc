#include "trainer/run/evaluate.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <spillway/trainer/failure.h>

#include <algorithm>

namespace spillway::trainer {

EvaluationShare::EvaluationShare(std::uint64_t samples, std::uint32_t rank,
                                 std::uint32_t world_size)
    : samples(samples),
      computed((samples + world_size - 1) / world_size),
      counted((samples + world_size - 1 - rank) / world_size),
      rank(rank),
      world_size(world_size) {}

std::uint64_t EvaluationShare::sample(std::uint64_t i) const {
  return std::min(i * world_size + rank, samples - 1);
}

double evaluate(ZeroEngine& engine, const ModelInUse& model, Communicator& ranks,
                const TokenFile& data, const EvaluationOptions& options) {
  const at::NoGradGuard no_graph;
  const auto sampler = value_or_throw(BatchSampler::create(data, options.context, options.seed));
  const EvaluationShare share(options.samples, ranks.rank(), ranks.world_size());
  const BatchShape shape{
      .samples = share.computed, .context = options.context, .vocab_size = model.vocab_size()};
  const TokenBatch batch =
      make_batch(data, shape, options.device, [&](std::uint64_t i, auto tokens, auto targets) {
        sampler.evaluation_sample(share.sample(i), options.samples, tokens, targets);
      });
  zero::Pass pass = engine.inference_pass();
  const at::Tensor losses = model.token_losses(pass, batch);
  const double sum = losses.narrow(0, 0, static_cast<std::int64_t>(share.counted))
                         .to(at::kDouble)
                         .sum()
                         .item<double>();
  return engine.sum_over_ranks(sum) / (static_cast<double>(options.samples) * options.context);
}

}  // namespace spillway::trainer
