#include "trainer/models/gpt2/tensors.h"

#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

namespace spillway::trainer {
namespace {

constexpr std::uint32_t kGpt2Vocabulary = 50257;

constexpr std::string_view kPrefix = "transformer.";
constexpr const char* kHead = "lm_head.weight";
constexpr const char* kTokenTable = "transformer.wte.weight";

// A causal mask, which files of older versions carry: "h.3.attn.bias", "h.3.attn.masked_bias".
bool is_mask(std::string_view name) {
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  return name.starts_with("h.") &&
         (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"));
}

std::string name_of(const std::string& in_file) {
  if (is_mask(in_file)) return {};
  const bool prefixed = in_file.starts_with(kPrefix) || in_file == kHead;
  return prefixed ? in_file : std::string(kPrefix) + in_file;
}

}  // namespace

TensorMap gpt2_tensors(const GptConfig& config) {
  const std::int64_t width = config.n_embd;
  TensorMap map;
  const auto add = [&](std::string parameter, std::string tensor, std::vector<std::int64_t> shape,
                       bool transposed = false) {
    map.slices.push_back({.parameter = std::move(parameter),
                          .tensor = std::move(tensor),
                          .shape = std::move(shape),
                          .transposed = transposed});
  };
  const auto norm = [&](const std::string& parameter, const std::string& tensor) {
    for (const char* part : {".weight", ".bias"}) add(parameter + part, tensor + part, {width});
  };
  const auto projection = [&](const std::string& name, std::int64_t in, std::int64_t out) {
    add(name + ".weight", name + ".weight", {out, in}, /*transposed=*/true);
    add(name + ".bias", name + ".bias", {out});
  };
  add(kTokenTable, kTokenTable, {config.vocab_size, width});
  add("transformer.wpe.weight", "transformer.wpe.weight", {config.n_positions, width});
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
  if (config.tie_word_embeddings) {
    map.tied.push_back({kHead, kTokenTable,
                        "lm_head.weight is not wte.weight, but config.json says that they are tied "
                        "(tie_word_embeddings)"});
  } else {
    add("head.lm_head.weight", kHead, {config.vocab_size, width});
    map.notes[kHead] = " (config.json: tie_word_embeddings is false)";
  }
  map.name_of = name_of;
  return map;
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
