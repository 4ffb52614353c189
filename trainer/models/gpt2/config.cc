#include "trainer/models/gpt2/config.h"
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "trainer/base/nearest_name.h"
#include "trainer/config/json_document.h"

namespace spillway::trainer {
namespace {

struct NamedModel {
  const char* name;
  GptConfig config;
};

const std::array<NamedModel, 2>& named_models() {
  static const std::array<NamedModel, 2> kModels{{
      {"gpt-lite",
       {.n_layer = 12,
        .n_embd = 768,
        .n_head = 12,
        .n_positions = 2048,
        .vocab_size = 256,
        .tie_word_embeddings = false,
        .attn_pdrop = 0.1,
        .embd_pdrop = 0.1,
        .resid_pdrop = 0.1}},
      {"gpt-lite-small",
       {.n_layer = 4,
        .n_embd = 256,
        .n_head = 4,
        .n_positions = 128,
        .vocab_size = 256,
        .tie_word_embeddings = false,
        .initializer_range = 0.05}},
  }};
  return kModels;
}

struct SizeKey {
  const char* name;
  std::uint32_t GptConfig::*member;
};
constexpr std::array kSizeKeys{
    SizeKey{"n_layer", &GptConfig::n_layer}, SizeKey{"n_embd", &GptConfig::n_embd},
    SizeKey{"n_head", &GptConfig::n_head}, SizeKey{"n_positions", &GptConfig::n_positions},
    SizeKey{"vocab_size", &GptConfig::vocab_size}};

struct NumberKey {
  const char* name;
  double GptConfig::*member;
  double below;  // values are in [0, below)
};
constexpr double kNoBound = std::numeric_limits<double>::infinity();
constexpr std::array kNumberKeys{
    NumberKey{"attn_pdrop", &GptConfig::attn_pdrop, 1.0},
    NumberKey{"embd_pdrop", &GptConfig::embd_pdrop, 1.0},
    NumberKey{"resid_pdrop", &GptConfig::resid_pdrop, 1.0},
    NumberKey{"layer_norm_epsilon", &GptConfig::layer_norm_epsilon, kNoBound},
    NumberKey{"initializer_range", &GptConfig::initializer_range, kNoBound}};

// Keys of GPT-2's config.json that say how the model was made or is used to generate.
constexpr std::array kIgnoredKeys{"architectures",
                                  "bos_token_id",
                                  "eos_token_id",
                                  "pad_token_id",
                                  "task_specific_params",
                                  "torch_dtype",
                                  "dtype",
                                  "transformers_version",
                                  "use_cache",
                                  "_name_or_path",
                                  "summary_activation",
                                  "summary_first_dropout",
                                  "summary_proj_to_labels",
                                  "summary_type",
                                  "summary_use_proj",
                                  "_num_labels",
                                  "id2label",
                                  "label2id",
                                  "gradient_checkpointing",
                                  "output_past"};

// Keys of GPT-2's config.json with the one value that is built; another gives another model.
struct FixedKey {
  const char* name;
  const char* value;  // JSON
};
constexpr std::array kFixedKeys{FixedKey{"model_type", R"("gpt2")"},
                                FixedKey{"activation_function", R"("gelu_new")"},
                                FixedKey{"scale_attn_weights", "true"},
                                FixedKey{"scale_attn_by_inverse_layer_idx", "false"},
                                FixedKey{"reorder_and_upcast_attn", "false"},
                                FixedKey{"add_cross_attention", "false"}};

std::vector<std::string> all_key_names() {
  std::vector<std::string> names{"tie_word_embeddings", "n_ctx", "n_inner"};
  for (const SizeKey& key : kSizeKeys) names.emplace_back(key.name);
  for (const NumberKey& key : kNumberKeys) names.emplace_back(key.name);
  for (const FixedKey& key : kFixedKeys) names.emplace_back(key.name);
  names.insert(names.end(), kIgnoredKeys.begin(), kIgnoredKeys.end());
  return names;
}

// A whole number above zero that fits, written as 12 or as 1.2e1.
std::optional<std::uint32_t> positive_size(const JsonValue& value) {
  if (!value.is_number()) return std::nullopt;
  const double number = value.number();
  if (!(number >= 1 && number <= 1e9) || number != std::floor(number)) return std::nullopt;
  return static_cast<std::uint32_t>(number);
}

// Sets what `name` stands for, or says what is wrong with it ("" = nothing).
std::string apply_key(GptConfig& config, const std::string& name, const JsonValue& value) {
  for (const SizeKey& key : kSizeKeys) {
    if (name != key.name) continue;
    const std::optional<std::uint32_t> size = positive_size(value);
    if (!size) return "a whole number from 1 to 1e9 is expected, found " + text_of(value);
    config.*key.member = *size;
    return {};
  }
  for (const NumberKey& key : kNumberKeys) {
    if (name != key.name) continue;
    if (!value.is_number()) return "a number is expected, found " + text_of(value);
    config.*key.member = value.number();
    return {};
  }
  if (name == "tie_word_embeddings") {
    if (!value.is_bool()) return "true or false is expected, found " + text_of(value);
    config.tie_word_embeddings = value.boolean();
    return {};
  }
  for (const FixedKey& key : kFixedKeys) {
    if (name != key.name) continue;
    if (value == *parse_json(key.value)) return {};
    return "only " + std::string(key.value) + " is built, found " + text_of(value);
  }
  for (const char* ignored : kIgnoredKeys) {
    if (name == ignored) return {};
  }
  const std::string nearest = nearest_name(name, all_key_names());
  return "unknown key" + (nearest.empty() ? "" : ", did you mean '" + nearest + "'?");
}

// n_ctx is GPT-2's old second name for n_positions, n_inner the width of the MLP (null = 4 n_embd).
std::string check_derived_key(const GptConfig& config, const std::string& name,
                              const JsonValue& value) {
  const std::uint64_t wanted =
      name == "n_ctx" ? config.n_positions : 4 * std::uint64_t{config.n_embd};
  if (value.is_null() || value == wanted) return {};
  return "only " + std::to_string(wanted) + (name == "n_ctx" ? " (n_positions)" : " (4 x n_embd)") +
         " is built, found " + text_of(value);
}

Result<GptConfig> model_from(const JsonDocument& document, const std::string& path) {
  GptConfig config;
  std::string problems;
  auto report = [&](const std::string& name, const std::string& problem) {
    if (problem.empty()) return;
    problems +=
        (problems.empty() ? "" : "\n") + name + ": " + problem + " (" + document.place(name) + ")";
  };
  for (const auto& [name, value] : document.root().members()) {
    if (name != "n_ctx" && name != "n_inner") report(name, apply_key(config, name, value));
  }
  for (const auto& [name, value] : document.root().members()) {
    if (name == "n_ctx" || name == "n_inner") report(name, check_derived_key(config, name, value));
  }
  for (const SizeKey& key : kSizeKeys) {
    if (document.root().find(key.name) != nullptr) continue;
    problems += (problems.empty() ? "" : "\n") + std::string(key.name) + ": missing";
  }
  if (problems.empty()) {
    if (const Result<void> valid = validate(config); !valid) problems = valid.error().detail;
  }
  if (problems.empty()) return config;
  return make_error(ErrorKind::kInvalid, "load model", path, problems);
}

}  // namespace

Result<void> validate(const GptConfig& config) {
  std::string problems;
  auto report = [&](const std::string& problem) {
    problems += (problems.empty() ? "" : "\n") + problem;
  };
  for (const SizeKey& key : kSizeKeys) {
    if (config.*key.member == 0) report(std::string(key.name) + ": must not be 0");
  }
  for (const NumberKey& key : kNumberKeys) {
    const double number = config.*key.member;
    if (number >= 0 && number < key.below) continue;
    report(std::string(key.name) + ": " + text_of(number) + " is not in [0, " +
           (std::isinf(key.below) ? "infinity" : "1") + ")");
  }
  if (config.n_head != 0 && config.n_embd % config.n_head != 0) {
    report("n_embd: " + std::to_string(config.n_embd) + " is not a multiple of n_head " +
           std::to_string(config.n_head) + " (remainder " +
           std::to_string(config.n_embd % config.n_head) + ")");
  }
  if (problems.empty()) return {};
  return make_error(ErrorKind::kInvalid, "check model", "", problems);
}

Result<GptConfig> read_gpt(std::string_view json, const std::string& path) {
  const auto document = JsonDocument::parse(json, path);
  if (!document) return tl::unexpected(document.error());
  return model_from(*document, path);
}

std::string gpt_json(const GptConfig& config) {
  return text_of(JsonValue::object({{"n_layer", config.n_layer},
                                    {"n_embd", config.n_embd},
                                    {"n_head", config.n_head},
                                    {"n_positions", config.n_positions},
                                    {"vocab_size", config.vocab_size},
                                    {"tie_word_embeddings", config.tie_word_embeddings},
                                    {"attn_pdrop", config.attn_pdrop},
                                    {"embd_pdrop", config.embd_pdrop},
                                    {"resid_pdrop", config.resid_pdrop},
                                    {"layer_norm_epsilon", config.layer_norm_epsilon},
                                    {"initializer_range", config.initializer_range}}));
}

std::vector<std::string> gpt_names() {
  std::vector<std::string> names;
  for (const NamedModel& model : named_models()) names.emplace_back(model.name);
  return names;
}

std::optional<GptConfig> named_gpt(const std::string& name) {
  for (const NamedModel& model : named_models()) {
    if (name == model.name) return model.config;
  }
  return std::nullopt;
}

std::vector<UnitSize> unit_sizes(const GptConfig& config) {
  const std::uint64_t width = config.n_embd;
  const std::uint64_t vocabulary = config.vocab_size;
  const std::uint64_t norm = 2 * width;  // weight and bias
  const std::uint64_t attention = width * 3 * width + 3 * width + width * width + width;
  const std::uint64_t mlp = width * 4 * width + 4 * width + 4 * width * width + width;
  std::vector<UnitSize> units;
  units.push_back({"embedding", (vocabulary + config.n_positions) * width});
  for (std::uint32_t block = 0; block < config.n_layer; ++block) {
    units.push_back({"block " + std::to_string(block), 2 * norm + attention + mlp});
  }
  units.push_back({"head", norm + (config.tie_word_embeddings ? 0 : vocabulary * width)});
  return units;
}

std::uint64_t parameter_count(const GptConfig& config) {
  std::uint64_t sum = 0;
  for (const UnitSize& unit : unit_sizes(config)) sum += unit.parameters;
  return sum;
}

}  // namespace spillway::trainer
