#include "trainer/models/gpt2/tensors.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace spillway::trainer {
namespace {

constexpr std::uint32_t kGpt2Vocabulary = 50257;

std::string text_of(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t size : shape) text += (text.empty() ? "" : " x ") + std::to_string(size);
  return text;
}

}  // namespace

std::vector<TensorOfParameter> gpt2_tensors(const GptConfig& config) {
  const std::int64_t width = config.n_embd;
  std::vector<TensorOfParameter> all;
  const auto norm = [&](const std::string& parameter, const std::string& tensor) {
    for (const char* part : {".weight", ".bias"}) {
      all.push_back({parameter + part, tensor + part, {width}, false});
    }
  };
  const auto projection = [&](const std::string& name, std::int64_t in, std::int64_t out) {
    all.push_back({name + ".weight", name + ".weight", {out, in}, true});
    all.push_back({name + ".bias", name + ".bias", {out}, false});
  };
  const auto table = [&](const std::string& parameter, const std::string& tensor,
                         std::int64_t rows) {
    all.push_back({parameter, tensor, {rows, width}, false});
  };
  table("transformer.wte.weight", "transformer.wte.weight", config.vocab_size);
  table("transformer.wpe.weight", "transformer.wpe.weight", config.n_positions);
  for (std::uint32_t block = 0; block < config.n_layer; ++block) {
    const std::string name = "transformer.h." + std::to_string(block);
    norm(name + ".ln_1", name + ".ln_1");
    projection(name + ".attn.c_attn", width, 3 * width);
    projection(name + ".attn.c_proj", width, width);
    norm(name + ".ln_2", name + ".ln_2");
    projection(name + ".mlp.c_fc", width, 4 * width);
    projection(name + ".mlp.c_proj", 4 * width, width);
  }
  norm("head.ln_f", "transformer.ln_f");
  if (!config.tie_word_embeddings)
    table("head.lm_head.weight", "lm_head.weight", config.vocab_size);
  return all;
}

std::vector<std::uint64_t> tensor_shape(const TensorOfParameter& entry) {
  std::vector<std::uint64_t> shape(entry.shape.begin(), entry.shape.end());
  if (entry.transposed) std::swap(shape[0], shape[1]);
  return shape;
}

Result<void> check_is_gpt2(const CheckpointManifest& manifest, const std::string& name) {
  const auto refuse = [&](std::string why) {
    return make_error(ErrorKind::kInvalid, kLayOutAsGpt2, name, std::move(why));
  };
  if (!manifest.model) return refuse("it is of a model that is no GPT");
  if (auto valid = validate(*manifest.model); !valid) return refuse(valid.error().detail);
  // Before anything is made of the sizes that the manifest tells: they take 12 parameters a block.
  if (manifest.model->n_layer > manifest.parameters.size()) {
    return refuse("it has fewer parameters than blocks (n_layer)");
  }
  const std::vector<TensorOfParameter> wanted = gpt2_tensors(*manifest.model);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (i >= manifest.parameters.size()) {
      return refuse("it has no parameter '" + wanted[i].parameter + "'");
    }
    const CheckpointParameter& found = manifest.parameters[i];
    if (found.name != wanted[i].parameter) {
      return refuse("parameter '" + found.name + "' stands where '" + wanted[i].parameter +
                    "' is expected");
    }
    if (found.shape != wanted[i].shape) {
      return refuse("parameter '" + found.name + "' is " + text_of(found.shape) + ", not " +
                    text_of(wanted[i].shape));
    }
  }
  if (manifest.parameters.size() == wanted.size()) return {};
  return refuse("GPT-2 has no place for parameter '" + manifest.parameters[wanted.size()].name +
                "'");
}

std::string gpt2_config_json(const GptConfig& config, const std::string& torch_dtype) {
  // Of GPT-2's own vocabulary the end of a text is known; of others the tokenizer knows it.
  nlohmann::ordered_json end_of_text;
  if (config.vocab_size == kGpt2Vocabulary) end_of_text = kGpt2Vocabulary - 1;
  const nlohmann::ordered_json json{
      {"activation_function", "gelu_new"},
      {"architectures", nlohmann::ordered_json::array({"GPT2LMHeadModel"})},
      {"attn_pdrop", config.attn_pdrop},
      {"bos_token_id", end_of_text},
      {"embd_pdrop", config.embd_pdrop},
      {"eos_token_id", end_of_text},
      {"initializer_range", config.initializer_range},
      {"layer_norm_epsilon", config.layer_norm_epsilon},
      {"model_type", "gpt2"},
      {"n_embd", config.n_embd},
      {"n_head", config.n_head},
      {"n_inner", nullptr},
      {"n_layer", config.n_layer},
      {"n_positions", config.n_positions},
      {"reorder_and_upcast_attn", false},
      {"resid_pdrop", config.resid_pdrop},
      {"scale_attn_by_inverse_layer_idx", false},
      {"scale_attn_weights", true},
      {"tie_word_embeddings", config.tie_word_embeddings},
      {"torch_dtype", torch_dtype},
      {"use_cache", true},
      {"vocab_size", config.vocab_size}};
  return json.dump(2) + "\n";
}

std::string model_differences(const GptConfig& there, const GptConfig& here) {
  std::string lines;
  const auto compare = [&](const char* key, const auto& saved, const auto& wanted) {
    if (saved == wanted) return;
    lines += (lines.empty() ? "" : "\n") + std::string(key) + " is " +
             nlohmann::json(saved).dump() + " there and " + nlohmann::json(wanted).dump() +
             " in this run";
  };
  compare("n_layer", there.n_layer, here.n_layer);
  compare("n_embd", there.n_embd, here.n_embd);
  compare("n_head", there.n_head, here.n_head);
  compare("n_positions", there.n_positions, here.n_positions);
  compare("vocab_size", there.vocab_size, here.vocab_size);
  compare("tie_word_embeddings", there.tie_word_embeddings, here.tie_word_embeddings);
  compare("layer_norm_epsilon", there.layer_norm_epsilon, here.layer_norm_epsilon);
  return lines;
}

}  // namespace spillway::trainer
