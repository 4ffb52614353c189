// The GPT-2 family (model.h): what the trainer knows of a GptConfig.
#pragma once

#include <spillway/trainer/model.h>
#include "trainer/models/gpt2/config.h"

#include <cstdint>

namespace spillway::trainer {

const ModelFamily& gpt2_family();

ModelConfigPtr gpt2_model(const GptConfig& config);
// REQUIRES: a model of this family.
const GptConfig& gpt_config(const ModelConfig& model);

ModelShape gpt_shape(const GptConfig& config);

// A GPT-3 shape of that width, with the rest of `like`: layers as in Brown et al. (2020), table
// 2.1, interpolated.
GptConfig gpt3_like(const GptConfig& like, std::uint32_t width);

}  // namespace spillway::trainer
