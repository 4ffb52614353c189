// ModelInUse: the model that a run trains, as far as the run needs to know it.
//
// The one place of trainer/run that knows the family of the model. One thread.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/trainer/unit.h>
#include <spillway/trainer/zero.h>
#include "trainer/models/gpt2/model.h"
#include "trainer/run/batches.h"

#include <cstdint>
#include <vector>

namespace spillway::trainer {

class ModelInUse {
 public:
  explicit ModelInUse(const GptConfig& config);

  // What the engine is made of.
  const ModelSpec& spec() const noexcept { return spec_; }
  std::uint32_t positions() const noexcept { return config_.n_positions; }
  std::uint32_t vocab_size() const noexcept { return config_.vocab_size; }
  // Activations kept from forward to backward for each token: the inputs of the units after the
  // first, and the output of the last block.
  std::uint64_t boundary_elements() const noexcept;

  // Cross entropy of every token, fp32, in nats: [samples, context].
  at::Tensor token_losses(zero::Pass& pass, const TokenBatch& batch) const;
  // Continues `prompt`, see generate().
  std::vector<std::int64_t> generate(zero::Pass& pass, std::vector<std::int64_t> prompt,
                                     const GenerateOptions& options) const;

 private:
  const GptConfig config_;
  ModelSpec spec_;
  GptUnits units_;
};

}  // namespace spillway::trainer
