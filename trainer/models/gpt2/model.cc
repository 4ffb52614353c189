#include "trainer/models/gpt2/model.h"
#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <spillway/aio/check.h>
#include <spillway/trainer/model_units.h>
#include "trainer/base/seed.h"
#include "trainer/models/gpt2/family.h"
#include "trainer/models/registry.h"

#include <cmath>
#include <limits>

namespace spillway::trainer {
namespace {

at::Tensor normal(at::IntArrayRef shape, double standard_deviation) {
  return at::empty(shape).normal_(0.0, standard_deviation);
}

struct Linear : torch::nn::Module {
  Linear(std::int64_t in, std::int64_t out, double standard_deviation)
      : weight(register_parameter("weight", normal({out, in}, standard_deviation))),
        bias(register_parameter("bias", at::zeros({out}))) {}
  at::Tensor operator()(const at::Tensor& x) const { return at::linear(x, weight, bias); }
  at::Tensor weight, bias;
};

struct LayerNorm : torch::nn::Module {
  LayerNorm(std::int64_t width, double epsilon)
      : weight(register_parameter("weight", at::ones({width}))),
        bias(register_parameter("bias", at::zeros({width}))),
        width_(width),
        epsilon_(epsilon) {}
  at::Tensor operator()(const at::Tensor& x) const {
    return at::layer_norm(x, {width_}, weight, bias, epsilon_);
  }
  at::Tensor weight, bias;

 private:
  std::int64_t width_;
  double epsilon_;
};

struct Table : torch::nn::Module {
  Table(std::int64_t rows, std::int64_t width, double standard_deviation)
      : weight(register_parameter("weight", normal({rows, width}, standard_deviation))) {}
  at::Tensor weight;
};

// Numbers of the dropouts within a unit.
enum DropoutSite : std::uint32_t { kEmbedding = 0, kAttention = 0, kAttentionOut = 1, kMlpOut = 2 };

struct Embedding final : Unit {
  explicit Embedding(const GptConfig& config)
      : wte(register_module("wte", std::make_shared<Table>(config.vocab_size, config.n_embd,
                                                           config.initializer_range))),
        wpe(register_module("wpe", std::make_shared<Table>(config.n_positions, config.n_embd,
                                                           config.initializer_range))),
        dropout(config.embd_pdrop) {}

  // inputs: tokens [samples, n] -> [samples, n, n_embd]
  at::Tensor forward(const std::vector<at::Tensor>& inputs,
                     const ForwardContext& context) override {
    const at::Tensor& tokens = inputs[0];
    const at::Tensor x =
        at::embedding(wte->weight, tokens) + wpe->weight.narrow(0, 0, tokens.size(1));
    return context.dropout(x, dropout, kEmbedding);
  }

  std::shared_ptr<Table> wte, wpe;
  double dropout;
};

struct Attention : torch::nn::Module {
  explicit Attention(const GptConfig& config)
      : c_attn(register_module(
            "c_attn", std::make_shared<Linear>(config.n_embd, 3 * std::int64_t{config.n_embd},
                                               config.initializer_range))),
        c_proj(register_module(
            "c_proj",
            std::make_shared<Linear>(config.n_embd, config.n_embd,
                                     config.initializer_range / std::sqrt(2.0 * config.n_layer)))),
        heads(config.n_head),
        dropout(config.attn_pdrop) {}

  at::Tensor operator()(const at::Tensor& x, const ForwardContext& context) const {
    const std::int64_t samples = x.size(0), length = x.size(1), width = x.size(2);
    std::vector<at::Tensor> qkv = (*c_attn)(x).split(width, 2);
    for (at::Tensor& part : qkv) {
      part = part.view({samples, length, heads, width / heads}).transpose(1, 2);
    }
    const at::Tensor mixed = mix(qkv[0], qkv[1], qkv[2], context);
    return (*c_proj)(mixed.transpose(1, 2).reshape({samples, length, width}));
  }

  // softmax(q k^T / sqrt(d)) v over earlier positions; q, k, v: [samples, heads, n, d].
  at::Tensor mix(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 const ForwardContext& context) const {
    if (!context.training || dropout == 0.0) {
      return at::scaled_dot_product_attention(q, k, v, {}, 0.0, /*is_causal=*/true);
    }
    // Written out, because the fused one draws its mask from the running generator.
    const std::int64_t length = q.size(2);
    const at::Tensor future =
        at::ones({length, length}, q.options().dtype(at::kBool).requires_grad(false)).triu(1);
    const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
    const at::Tensor scores = at::matmul(q * scale, k.transpose(2, 3))
                                  .masked_fill(future, -std::numeric_limits<double>::infinity());
    const at::Tensor weights = context.dropout(at::softmax(scores, 3), dropout, kAttention);
    return at::matmul(weights, v);
  }

  std::shared_ptr<Linear> c_attn, c_proj;
  std::int64_t heads;
  double dropout;
};

struct Mlp : torch::nn::Module {
  explicit Mlp(const GptConfig& config)
      : c_fc(register_module(
            "c_fc", std::make_shared<Linear>(config.n_embd, 4 * std::int64_t{config.n_embd},
                                             config.initializer_range))),
        c_proj(register_module(
            "c_proj",
            std::make_shared<Linear>(4 * std::int64_t{config.n_embd}, config.n_embd,
                                     config.initializer_range / std::sqrt(2.0 * config.n_layer)))) {
  }
  at::Tensor operator()(const at::Tensor& x) const {
    return (*c_proj)(at::gelu((*c_fc)(x), "tanh"));
  }
  std::shared_ptr<Linear> c_fc, c_proj;
};

struct Block final : Unit {
  explicit Block(const GptConfig& config)
      : ln_1(register_module(
            "ln_1", std::make_shared<LayerNorm>(config.n_embd, config.layer_norm_epsilon))),
        attn(register_module("attn", std::make_shared<Attention>(config))),
        ln_2(register_module(
            "ln_2", std::make_shared<LayerNorm>(config.n_embd, config.layer_norm_epsilon))),
        mlp(register_module("mlp", std::make_shared<Mlp>(config))),
        dropout(config.resid_pdrop) {}

  // inputs: x [samples, n, n_embd] -> the same
  at::Tensor forward(const std::vector<at::Tensor>& inputs,
                     const ForwardContext& context) override {
    const at::Tensor x =
        inputs[0] + context.dropout((*attn)((*ln_1)(inputs[0]), context), dropout, kAttentionOut);
    return x + context.dropout((*mlp)((*ln_2)(x)), dropout, kMlpOut);
  }

  std::shared_ptr<LayerNorm> ln_1;
  std::shared_ptr<Attention> attn;
  std::shared_ptr<LayerNorm> ln_2;
  std::shared_ptr<Mlp> mlp;
  double dropout;
};

struct Head final : Unit {
  explicit Head(const GptConfig& config)
      : ln_f(register_module(
            "ln_f", std::make_shared<LayerNorm>(config.n_embd, config.layer_norm_epsilon))) {
    if (config.tie_word_embeddings) return;
    lm_head = register_module("lm_head", std::make_shared<Table>(config.vocab_size, config.n_embd,
                                                                 config.initializer_range));
  }

  // inputs: x [samples, n, n_embd] -> logits, fp32 [samples, n, vocab_size]; with targets
  // [samples, n] as the second input -> each token's loss, fp32 [samples, n]
  at::Tensor forward(const std::vector<at::Tensor>& inputs,
                     const ForwardContext& context) override {
    const at::Tensor& weight = lm_head ? lm_head->weight : context.borrowed[0];
    const at::Tensor logits = at::linear((*ln_f)(inputs[0]), weight).to(at::kFloat);
    if (inputs.size() == 1) return logits;
    const at::Tensor& targets = inputs[1];
    return at::cross_entropy_loss(logits.flatten(0, 1), targets.flatten(), {}, at::Reduction::None)
        .view(targets.sizes());
  }

  std::shared_ptr<LayerNorm> ln_f;
  std::shared_ptr<Table> lm_head;
};

at::Tensor hidden(zero::Pass& pass, const GptUnits& units, const at::Tensor& tokens) {
  at::Tensor x = zero::run(pass, units.embedding, {tokens});
  for (const UnitId block : units.blocks) x = zero::run(pass, block, {x});
  return x;
}

}  // namespace

GptUnits add_gpt(ModelSpec& model, const GptConfig& config) {
  GptUnits units;
  units.embedding =
      model.add({"transformer", [config] { return std::make_shared<Embedding>(config); }, {}});
  for (std::uint32_t i = 0; i < config.n_layer; ++i) {
    units.blocks.push_back(model.add({"transformer.h." + std::to_string(i),
                                      [config] { return std::make_shared<Block>(config); },
                                      {}}));
  }
  std::vector<Borrow> borrows;
  if (config.tie_word_embeddings) borrows.push_back({units.embedding, "wte.weight"});
  units.head =
      model.add({"head", [config] { return std::make_shared<Head>(config); }, std::move(borrows)});
  return units;
}

at::Tensor gpt_token_losses(zero::Pass& pass, const GptUnits& units, const at::Tensor& tokens,
                            const at::Tensor& targets) {
  return zero::run(pass, units.head, {hidden(pass, units, tokens), targets});
}

at::Tensor gpt_next_logits(zero::Pass& pass, const GptUnits& units, const at::Tensor& tokens) {
  const at::Tensor x = hidden(pass, units, tokens);
  return zero::run(pass, units.head, {x.narrow(1, x.size(1) - 1, 1)}).squeeze(1);
}

namespace {

class Gpt2Units final : public ModelUnits {
 public:
  Gpt2Units(const GptConfig& config, GptUnits units) : config_(config), units_(std::move(units)) {}

  at::Tensor token_losses(zero::Pass& pass, const Batch& batch) const override {
    require_plain_batch(batch, "GPT-2");
    const at::Tensor losses = gpt_token_losses(pass, units_, batch.inputs, batch.targets);
    return batch.weights.defined() ? losses * batch.weights : losses;
  }
  at::Tensor logits(zero::Pass& pass, const Batch& batch, Cache* cache) const override {
    require_plain_batch(batch, "GPT-2");
    SPILLWAY_CHECK(cache == nullptr, "no model of this family makes a cache");
    return gpt_next_logits(pass, units_, batch.inputs);
  }
  std::vector<UnitProbe> probes() const override {
    const auto hidden = [width = std::int64_t{config_.n_embd}](
                            std::int64_t samples, std::int64_t tokens, at::ScalarType type) {
      return at::randn({samples, tokens, width}).to(type);
    };
    const auto block = [hidden](std::int64_t samples, std::int64_t tokens, at::ScalarType type) {
      return std::vector<at::Tensor>{hidden(samples, tokens, type)};
    };
    const auto head = [hidden](std::int64_t samples, std::int64_t tokens, at::ScalarType type) {
      return std::vector<at::Tensor>{hidden(samples, tokens, type),
                                     at::zeros({samples, tokens}, at::kLong)};
    };
    return {{units_.blocks[0], config_.n_layer, block}, {units_.head, 1, head}};
  }

 private:
  GptConfig config_;
  GptUnits units_;
};

}  // namespace

std::unique_ptr<ModelUnits> add_gpt2_units(ModelSpec& spec, const ModelConfig& model) {
  return std::make_unique<Gpt2Units>(gpt_config(model), add_gpt(spec, gpt_config(model)));
}

std::vector<std::int64_t> generate(zero::Pass& pass, const GptUnits& units,
                                   std::uint32_t n_positions, std::vector<std::int64_t> prompt,
                                   const GenerateOptions& options) {
  return generate(pass, Gpt2Units({}, units), n_positions, std::move(prompt), options);
}

}  // namespace spillway::trainer
