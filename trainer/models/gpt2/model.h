// GPT-2 as units of a ZeRO-Infinity model: the embeddings, each block, and the head with the loss.
//
// Radford et al., "Language Models are Unsupervised Multitask Learners" (2019): pre-norm blocks,
// gelu (tanh form), learned positions. Initial values as GPT-2's: normal(0, initializer_range),
// projections back into the residual stream scaled by 1 / sqrt(2 n_layer), biases 0. The head's
// weight is the embedding's (borrowed) when tie_word_embeddings is set.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/trainer/generate.h>
#include <spillway/trainer/unit.h>
#include <spillway/trainer/zero.h>
#include "trainer/models/gpt2/config.h"

#include <cstdint>
#include <vector>

namespace spillway::trainer {

struct GptUnits {
  UnitId embedding = 0;
  std::vector<UnitId> blocks;
  UnitId head = 0;
};

// Adds the model's units, in forward order.
GptUnits add_gpt(ModelSpec& model, const GptConfig& config);

// Cross entropy of every token, fp32, in nats: [samples, context]. tokens, targets: int64,
// [samples, context], context at most n_positions.
at::Tensor gpt_token_losses(zero::Pass& pass, const GptUnits& units, const at::Tensor& tokens,
                            const at::Tensor& targets);

// Logits of the token after the last, fp32: [samples, vocab_size]. tokens: int64, [samples, n].
at::Tensor gpt_next_logits(zero::Pass& pass, const GptUnits& units, const at::Tensor& tokens);

// Continues `prompt` (at least one token) token by token, each by a forward over the last
// n_positions tokens. All ranks call it and get the same tokens. Blocks.
std::vector<std::int64_t> generate(zero::Pass& pass, const GptUnits& units,
                                   std::uint32_t n_positions, std::vector<std::int64_t> prompt,
                                   const GenerateOptions& options);

}  // namespace spillway::trainer
