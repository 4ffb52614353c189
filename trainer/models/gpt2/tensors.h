// How a GPT's parameters are called and laid out in Hugging Face's GPT-2 checkpoints (config.json
// beside model.safetensors, class GPT2LMHeadModel).
//
// Two things differ from ours: a projection is a Conv1D there, whose weight is [in, out], ours
// [out, in]; and the final norm and the head have other names. A tied head has no tensor of its
// own. No torch, no I/O.
#pragma once

#include <spillway/aio/error.h>
#include "trainer/checkpoint/format/manifest.h"
#include "trainer/models/gpt2/config.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace spillway::trainer {

// A parameter and the tensor that holds it.
struct TensorOfParameter {
  std::string parameter;            // "transformer.h.3.attn.c_attn.weight", "head.ln_f.bias"
  std::string tensor;               // "transformer.h.3.attn.c_attn.weight", "transformer.ln_f.bias"
  std::vector<std::int64_t> shape;  // the parameter's
  bool transposed = false;  // the tensor is [columns, rows] of the parameter's [rows, columns]
};

// In forward order, which is that of a checkpoint's parameters.
std::vector<TensorOfParameter> gpt2_tensors(const GptConfig& config);
// The tensor's.
std::vector<std::uint64_t> tensor_shape(const TensorOfParameter& entry);

// The operation of its errors.
inline constexpr const char* kLayOutAsGpt2 = "lay out as GPT-2";
// kInvalid names the first parameter that is not there, too many, or of another shape.
Result<void> check_is_gpt2(const CheckpointManifest& manifest, const std::string& name);

// config.json. `torch_dtype`: "float32" or "bfloat16".
std::string gpt2_config_json(const GptConfig& config, const std::string& torch_dtype);

// What makes two models' weights incompatible, a line each: sizes, tying, epsilon. Empty: nothing.
std::string model_differences(const GptConfig& there, const GptConfig& here);

}  // namespace spillway::trainer
