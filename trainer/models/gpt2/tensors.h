// Names and shapes of a GPT's tensors in Hugging Face's checkpoints of GPT-2 (config.json beside
// model.safetensors, class GPT2LMHeadModel).
//
// Two things differ from ours: a projection is a Conv1D there, whose weight is [in, out], ours
// [out, in]; and the final norm and the head have other names. A tied head has no tensor of its
// own. Files of the bare model lack "transformer."; old ones carry causal masks, which are passed
// over. No torch, no I/O.
#pragma once

#include <spillway/trainer/tensor_map.h>
#include "trainer/models/gpt2/config.h"

#include <string>

namespace spillway::trainer {

TensorMap gpt2_tensors(const GptConfig& config);

// config.json. `torch_dtype`: "float32" or "bfloat16".
std::string gpt2_config_json(const GptConfig& config, const std::string& torch_dtype);

// What makes two models' weights incompatible, a line each: sizes, tying, epsilon. Empty: nothing.
std::string model_differences(const GptConfig& there, const GptConfig& here);

}  // namespace spillway::trainer
