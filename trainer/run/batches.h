// Token batches: samples of a token file as tensors, for a training step or an evaluation.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/trainer/data.h>

#include <cstdint>
#include <functional>
#include <span>

namespace spillway::trainer {

// Tokens and the tokens after them, int64: [samples, context].
struct TokenBatch {
  at::Tensor tokens;
  at::Tensor targets;
};

struct BatchShape {
  std::uint64_t samples = 0;
  std::uint32_t context = 0;
  std::uint32_t vocab_size = 0;
};

using FillSample = std::function<void(std::uint64_t sample, std::span<std::int64_t> tokens,
                                      std::span<std::int64_t> targets)>;

// Calls `fill` for each of the samples and copies them to `device`. Throws Failure (kInvalid, which
// names `file`) if a token is not below `vocab_size`.
TokenBatch make_batch(const TokenFile& file, const BatchShape& shape, at::Device device,
                      const FillSample& fill);

}  // namespace spillway::trainer
