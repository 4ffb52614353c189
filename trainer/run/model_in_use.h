// ModelInUse: the model that a run trains, as far as the run needs to know it. One thread.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/trainer/generate.h>
#include <spillway/trainer/model_units.h>
#include <spillway/trainer/unit.h>
#include <spillway/trainer/zero.h>
#include "trainer/run/batches.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace spillway::trainer {

class ModelInUse {
 public:
  explicit ModelInUse(const ModelConfig& config);

  // What the engine is made of.
  const ModelSpec& spec() const noexcept { return spec_; }
  std::uint32_t positions() const noexcept { return shape_.context; }
  std::uint32_t vocab_size() const noexcept {
    return static_cast<std::uint32_t>(shape_.vocabulary);
  }
  // Activations kept from forward to backward for each token: what units hand to others.
  std::uint64_t boundary_elements() const;

  // Cross entropy of every token, fp32, in nats: [samples, context].
  at::Tensor token_losses(zero::Pass& pass, const TokenBatch& batch) const;
  // Continues `prompt`, see generate().
  std::vector<std::int64_t> generate(zero::Pass& pass, std::vector<std::int64_t> prompt,
                                     const GenerateOptions& options) const;

 private:
  const ModelShape shape_;
  ModelSpec spec_;
  std::unique_ptr<ModelUnits> units_;
};

}  // namespace spillway::trainer
