#include "trainer/models/gpt2/family.h"
#include <spillway/aio/check.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "trainer/models/gpt2/tensors.h"

namespace spillway::trainer {
namespace {

constexpr std::uint32_t kHeadWidth = 64;  // of GPT-3's models, but for the largest

class Gpt2Model final : public ModelConfig {
 public:
  explicit Gpt2Model(const GptConfig& config) : config_(config) {}

  const GptConfig& config() const noexcept { return config_; }
  const ModelFamily& family() const override { return gpt2_family(); }
  ModelShape shape() const override { return gpt_shape(config_); }
  std::uint64_t block_count() const override { return config_.n_layer; }
  TensorMap tensors() const override { return gpt2_tensors(config_); }
  std::string json() const override { return gpt_json(config_); }
  std::string hugging_face_json(const std::string& torch_dtype) const override {
    return gpt2_config_json(config_, torch_dtype);
  }
  std::string summary() const override {
    return "GPT: " + std::to_string(config_.n_layer) + " layers, width " +
           std::to_string(config_.n_embd) + ", " + std::to_string(config_.n_head) + " heads, " +
           std::to_string(config_.n_positions) + " positions, vocabulary " +
           std::to_string(config_.vocab_size);
  }
  bool has_dropout() const override {
    return config_.attn_pdrop > 0 || config_.embd_pdrop > 0 || config_.resid_pdrop > 0;
  }
  std::string differences(const ModelConfig& other) const override {
    return model_differences(config_, gpt_config(other));
  }
  std::optional<SizedModel> of_size(std::uint32_t size) const override;

 private:
  GptConfig config_;
};

std::optional<SizedModel> Gpt2Model::of_size(std::uint32_t size) const {
  const GptConfig model = gpt3_like(config_, kHeadWidth * size);
  return SizedModel{
      gpt2_model(model), "a model of width " + std::to_string(model.n_embd),
      std::to_string(model.n_layer) + " layers, width " + std::to_string(model.n_embd) + ", " +
          std::to_string(model.n_head) + " heads of " + std::to_string(kHeadWidth) +
          " (GPT-3's shapes, interpolated; context " + std::to_string(model.n_positions) +
          " and vocabulary " + std::to_string(model.vocab_size) + " as given)"};
}

class Gpt2Family final : public ModelFamily {
 public:
  std::string name() const override { return "gpt2"; }
  std::string title() const override { return "GPT-2"; }
  std::string noun() const override { return "GPT"; }
  std::string files_text() const override {
    return "names and orientation of GPT2LMHeadModel, with config.json";
  }
  std::vector<std::string> model_names() const override { return gpt_names(); }
  ModelConfigPtr named(const std::string& name) const override {
    const auto config = named_gpt(name);
    return config ? gpt2_model(*config) : nullptr;
  }
  Result<ModelConfigPtr> read(std::string_view json, const std::string& path) const override {
    const auto config = read_gpt(json, path);
    if (!config) return tl::unexpected(config.error());
    return gpt2_model(*config);
  }
};

// Brown et al., "Language Models are Few-Shot Learners" (2020), table 2.1: width and layers.
constexpr std::array<std::pair<double, double>, 8> kGpt3Shapes = {{{768, 12},
                                                                   {1024, 24},
                                                                   {1536, 24},
                                                                   {2048, 24},
                                                                   {2560, 32},
                                                                   {4096, 32},
                                                                   {5120, 40},
                                                                   {12288, 96}}};

}  // namespace

const ModelFamily& gpt2_family() {
  static const Gpt2Family family;
  return family;
}

ModelConfigPtr gpt2_model(const GptConfig& config) {
  return std::make_shared<const Gpt2Model>(config);
}

const GptConfig& gpt_config(const ModelConfig& model) {
  const auto* const gpt = dynamic_cast<const Gpt2Model*>(&model);
  SPILLWAY_CHECK(gpt != nullptr, "the model is of this family");
  return gpt->config();
}

// What a graph keeps of a block: Korthikanti et al., "Reducing Activation Recomputation in Large
// Transformer Models" (2022), equation 1, t = 1: s b h (34 + 5 a s / h) bytes at 2 bytes an
// element. Of the head: logits and their gradient, and both in fp32.
ModelShape gpt_shape(const GptConfig& config) {
  const double width = config.n_embd, vocabulary = config.vocab_size;
  ModelShape shape;
  for (const UnitSize& unit : unit_sizes(config)) {
    const auto number = static_cast<std::uint32_t>(shape.units.size());
    shape.units.push_back({.name = unit.name, .trainable = unit.parameters});
    shape.uses.push_back({.unit = number, .output_width = config.n_embd});
  }
  for (std::size_t i = 1; i + 1 < shape.units.size(); ++i) {
    UnitShape& block = shape.units[i];
    block.graph_bytes = 34 * width;
    block.graph_bytes_per_token = 5.0 * config.n_head;
    block.products = 12 * width * width;
    block.products_per_token = 2 * width;
  }
  UnitShape& head = shape.units.back();
  head.graph_bytes = 4 * vocabulary;
  head.fp32_bytes = 8 * vocabulary;
  head.products = width * vocabulary;
  if (config.tie_word_embeddings) head.borrows = {0};
  shape.uses.back().output_width = 0;
  shape.context = config.n_positions;
  shape.width = config.n_embd;
  shape.vocabulary = config.vocab_size;
  shape.sizes = {{"n_layer", config.n_layer},
                 {"n_embd", config.n_embd},
                 {"n_head", config.n_head},
                 {"n_positions", config.n_positions},
                 {"vocab_size", config.vocab_size}};
  return shape;
}

GptConfig gpt3_like(const GptConfig& like, std::uint32_t width) {
  GptConfig model = like;
  model.n_embd = width;
  model.n_head = std::max(1u, width / kHeadWidth);
  const auto above = std::find_if(kGpt3Shapes.begin(), kGpt3Shapes.end(),
                                  [&](const auto& shape) { return shape.first >= width; });
  double layers = width / 64.0;  // below the smallest: as square as it is
  if (above == kGpt3Shapes.end()) {
    layers = width / 128.0;  // above the largest
  } else if (above != kGpt3Shapes.begin()) {
    const auto below = above - 1;
    layers = below->second + (above->second - below->second) * (width - below->first) /
                                 (above->first - below->first);
  }
  model.n_layer = std::max(1u, static_cast<std::uint32_t>(std::lround(layers)));
  return model;
}

}  // namespace spillway::trainer
