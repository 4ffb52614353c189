#include "tests/trainer/models/toy_family.h"

#include <ATen/Functions.h>
#include <spillway/aio/check.h>

#include <cmath>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>

namespace spillway::trainer::testing {
namespace {

using Tensors = std::vector<at::Tensor>;

// Methods.
enum DecoderMethod : std::uint32_t { kBlock = 0, kKeysAndValues = 1 };
enum HeadMethod : std::uint32_t { kLosses = 0, kLogits = 1 };
// Shared constants.
enum Shared : std::size_t { kPositions = 0, kFuture = 1 };

at::Tensor weight(std::int64_t rows, std::int64_t columns) {
  return at::randn({rows, columns}).mul_(1.0 / std::sqrt(static_cast<double>(columns)));
}

struct ToyUnit : Unit {
  explicit ToyUnit(const ToyConfig& config) : width(config.width) {}
  at::Tensor matrix(const char* name) { return register_parameter(name, weight(width, width)); }
  std::int64_t width;
};

struct Table final : ToyUnit {  // lent to others, and run by nobody
  explicit Table(const ToyConfig& config) : ToyUnit(config) {
    register_parameter("weight", weight(config.vocabulary, width));
  }
  at::Tensor forward(const Tensors&, const ForwardContext&) override { return {}; }
};

struct Features final : ToyUnit {  // frozen as a whole
  explicit Features(const ToyConfig& config)
      : ToyUnit(config),
        table(register_parameter("table", weight(config.vocabulary, width), false)) {}
  at::Tensor forward(const Tensors& inputs, const ForwardContext&) override {
    return at::embedding(table, inputs[0]);
  }
  at::Tensor table;
};

struct EncoderInput final : ToyUnit {  // inputs: source, features; a bias of it is frozen
  explicit EncoderInput(const ToyConfig& config)
      : ToyUnit(config),
        mix(matrix("mix")),
        bias(register_parameter("bias", at::randn({width}), false)) {}
  at::Tensor forward(const Tensors& inputs, const ForwardContext& context) override {
    return at::embedding(context.borrowed.at(0), inputs[0]) + at::linear(inputs[1], mix, bias);
  }
  at::Tensor mix, bias;
};

struct EncoderBlock final : ToyUnit {
  explicit EncoderBlock(const ToyConfig& config)
      : ToyUnit(config), q(matrix("q")), k(matrix("k")), v(matrix("v")), out(matrix("out")) {}
  at::Tensor forward(const Tensors& inputs, const ForwardContext&) override {
    const at::Tensor& x = inputs[0];
    const at::Tensor scores =
        at::matmul(at::linear(x, q), at::linear(x, k).transpose(1, 2)) / std::sqrt(1.0 * width);
    return x + at::linear(at::matmul(at::softmax(scores, 2), at::linear(x, v)), out);
  }
  at::Tensor q, k, v, out;
};

struct DecoderInput final : ToyUnit {  // borrows the table, adds the constant positions
  explicit DecoderInput(const ToyConfig& config)
      : ToyUnit(config), scale(register_parameter("scale", at::ones({width}))) {}
  at::Tensor forward(const Tensors& inputs, const ForwardContext& context) override {
    const at::Tensor& positions = context.shared.at(kPositions);
    const at::Tensor x = at::embedding(context.borrowed.at(0), inputs[0]) * scale;
    return x + positions.narrow(0, 0, x.size(1)).to(x.scalar_type());
  }
  at::Tensor scale;
};

struct DecoderBlock final : ToyUnit {
  explicit DecoderBlock(const ToyConfig& config)
      : ToyUnit(config), q(matrix("q")), k(matrix("k")), v(matrix("v")), mix(matrix("mix")) {}
  // kBlock: x, keys and values -> x. kKeysAndValues: what the encoder says -> both, side by side.
  at::Tensor forward(const Tensors& inputs, const ForwardContext& context) override {
    if (context.method == kKeysAndValues) {
      return at::cat({at::linear(inputs[0], k), at::linear(inputs[0], v)}, 2);
    }
    const std::int64_t length = inputs[0].size(1);
    const at::Tensor future = context.shared.at(kFuture).narrow(0, 0, length).narrow(1, 0, length);
    const at::Tensor mixed = at::linear(inputs[0], mix);
    const at::Tensor own =
        at::softmax(at::matmul(mixed, inputs[0].transpose(1, 2))
                        .masked_fill(future, -std::numeric_limits<double>::infinity()),
                    2);
    const at::Tensor x = inputs[0] + at::matmul(own, mixed);
    const at::Tensor keys = inputs[1].narrow(2, 0, width),
                     values = inputs[1].narrow(2, width, width);
    const at::Tensor scores =
        at::matmul(at::linear(x, q), keys.transpose(1, 2)) / std::sqrt(1.0 * width);
    return x + at::matmul(at::softmax(scores, 2), values);
  }
  at::Tensor q, k, v, mix;
};

struct Head final : ToyUnit {
  explicit Head(const ToyConfig& config)
      : ToyUnit(config), scale(register_parameter("scale", at::ones({width}))) {}
  at::Tensor forward(const Tensors& inputs, const ForwardContext& context) override {
    const at::Tensor logits = at::linear(inputs[0] * scale, context.borrowed.at(0)).to(at::kFloat);
    if (context.method == kLogits) return logits;
    return at::cross_entropy_loss(logits.flatten(0, 1), inputs[1].flatten(), {},
                                  at::Reduction::None)
        .view(inputs[1].sizes());
  }
  at::Tensor scale;
};

at::Tensor positions_of(const ToyConfig& config) {
  const at::Tensor angles = at::outer(at::arange(static_cast<std::int64_t>(config.context)),
                                      at::arange(static_cast<std::int64_t>(config.width)))
                                .to(at::kFloat);
  return (angles / 10).sin();
}

at::Tensor future_of(const ToyConfig& config) {
  return at::ones({config.context, config.context}, at::kBool).triu(1);
}

class ToyUnits final : public ModelUnits {
 public:
  ToyUnits(ModelSpec& spec, const ToyConfig& config) : config_(config) {
    const auto add = [&]<typename Made>(const std::string& name, Made* /*type*/, bool borrows) {
      std::vector<Borrow> borrowed;
      if (borrows) borrowed.push_back({table_, "weight"});
      return spec.add({name, [config] { return std::make_shared<Made>(config); }, borrowed});
    };
    table_ = add("shared", static_cast<Table*>(nullptr), false);
    features_ = add("features", static_cast<Features*>(nullptr), false);
    encoder_input_ = add("encoder.input", static_cast<EncoderInput*>(nullptr), true);
    for (std::uint32_t i = 0; i < config.layers; ++i) {
      encoder_.push_back(
          add("encoder." + std::to_string(i), static_cast<EncoderBlock*>(nullptr), false));
    }
    decoder_input_ = add("decoder.input", static_cast<DecoderInput*>(nullptr), true);
    for (std::uint32_t i = 0; i < config.layers; ++i) {
      decoder_.push_back(
          add("decoder." + std::to_string(i), static_cast<DecoderBlock*>(nullptr), false));
    }
    head_ = add("head", static_cast<Head*>(nullptr), true);
  }

  at::Tensor token_losses(zero::Pass& pass, const Batch& batch) const override {
    const at::Tensor losses = zero::run(pass, head_, {hidden(pass, batch), batch.targets});
    return batch.weights.defined() ? losses * batch.weights : losses;
  }
  at::Tensor logits(zero::Pass& pass, const Batch& batch, Cache* cache) const override {
    SPILLWAY_CHECK(cache == nullptr, "no model of this family makes a cache");
    const at::Tensor x = hidden(pass, batch);
    return zero::run(pass, head_, {x.narrow(1, x.size(1) - 1, 1)}, {.method = kLogits}).squeeze(1);
  }

 private:
  at::Tensor hidden(zero::Pass& pass, const Batch& batch) const {
    pass.set_shared({positions_of(config_), future_of(config_)});
    const at::Tensor features = zero::run(pass, features_, {batch.source});
    at::Tensor memory = zero::run(pass, encoder_input_, {batch.source, features});
    for (const UnitId block : encoder_) memory = zero::run(pass, block, {memory});
    at::Tensor x = zero::run(pass, decoder_input_, {batch.inputs});
    for (const UnitId block : decoder_) {
      const at::Tensor both = zero::run(pass, block, {memory}, {.method = kKeysAndValues});
      x = zero::run(pass, block, {x, both}, {.chunk = 3});
    }
    return x;
  }

  ToyConfig config_;
  UnitId table_ = 0, features_ = 0, encoder_input_ = 0, decoder_input_ = 0, head_ = 0;
  std::vector<UnitId> encoder_, decoder_;
};

class ToyModel final : public ModelConfig {
 public:
  explicit ToyModel(const ToyConfig& config) : config_(config) {}

  const ToyConfig& config() const { return config_; }
  const ModelFamily& family() const override { return toy_family(); }
  std::uint64_t block_count() const override { return 2 * std::uint64_t{config_.layers}; }
  ModelShape shape() const override;
  TensorMap tensors() const override;
  std::string json() const override {
    return nlohmann::ordered_json{{"layers", config_.layers},
                                  {"width", config_.width},
                                  {"vocabulary", config_.vocabulary},
                                  {"context", config_.context}}
        .dump();
  }
  std::string hugging_face_json(const std::string& torch_dtype) const override {
    auto object = nlohmann::ordered_json::parse(json());
    object["model_type"] = "toy";
    object["torch_dtype"] = torch_dtype;
    return object.dump(2) + "\n";
  }
  std::string summary() const override {
    return "toy: two stacks of " + std::to_string(config_.layers);
  }
  std::string differences(const ModelConfig& other) const override {
    return json() == other.json() ? "" : "the sizes differ";
  }

 private:
  ToyConfig config_;
};

ModelShape ToyModel::shape() const {
  const std::uint64_t d = config_.width, table = d * config_.vocabulary;
  const double square = static_cast<double>(d * d);
  ModelShape shape;
  const auto unit = [&](UnitShape one) {
    shape.units.push_back(std::move(one));
    return static_cast<std::uint32_t>(shape.units.size() - 1);
  };
  const auto use = [&](std::uint32_t number, std::uint64_t width, bool has_backward = true) {
    shape.uses.push_back({number, width, has_backward});
  };
  unit({.name = "shared", .trainable = table});
  use(unit({.name = "features", .frozen = table}), d, false);
  use(unit({.name = "encoder.input",
            .trainable = d * d,
            .frozen = d,
            .borrows = {0},
            .products = square}),
      d);
  for (std::uint32_t i = 0; i < config_.layers; ++i) {
    use(unit({.name = "encoder." + std::to_string(i),
              .trainable = 4 * d * d,
              .products = 4 * square}),
        d);
  }
  use(unit({.name = "decoder.input", .trainable = d, .borrows = {0}}), d);
  for (std::uint32_t i = 0; i < config_.layers; ++i) {
    const std::uint32_t block = unit(
        {.name = "decoder." + std::to_string(i), .trainable = 4 * d * d, .products = 2 * square});
    use(block, 2 * d);
    use(block, d);
  }
  use(unit(
          {.name = "head", .trainable = d, .borrows = {0}, .products = static_cast<double>(table)}),
      0);
  shape.context = config_.context;
  shape.width = config_.width;
  shape.vocabulary = config_.vocabulary;
  shape.sizes = {{"layers", config_.layers}, {"width", d}};
  return shape;
}

TensorMap ToyModel::tensors() const {
  const std::int64_t d = config_.width, rows = config_.vocabulary;
  const std::uint64_t w = config_.width;
  TensorMap map;
  const auto add = [&](TensorSlice slice) { map.slices.push_back(std::move(slice)); };
  add({.parameter = "shared.weight", .tensor = "embed", .shape = {rows, d}});
  add({.parameter = "features.table", .tensor = "features", .shape = {rows, d}});
  add({.parameter = "encoder.input.mix", .tensor = "mix", .shape = {d, d}, .transposed = true});
  add({.parameter = "encoder.input.bias", .tensor = "mix_bias", .shape = {d}});
  for (std::uint32_t i = 0; i < config_.layers; ++i) {
    // Rows of one tensor.
    const std::string name = "encoder." + std::to_string(i), fused = name + ".qkv";
    add({.parameter = name + ".q", .tensor = fused, .shape = {d, d}});
    add({.parameter = name + ".k", .tensor = fused, .row0 = w, .shape = {d, d}});
    add({.parameter = name + ".v", .tensor = fused, .row0 = 2 * w, .shape = {d, d}});
    add({.parameter = name + ".out", .tensor = name + ".out", .shape = {d, d}});
  }
  add({.parameter = "decoder.input.scale", .tensor = "decoder.scale", .shape = {d}});
  for (std::uint32_t i = 0; i < config_.layers; ++i) {
    // Columns of one tensor, of which one lies the other way.
    const std::string name = "decoder." + std::to_string(i), fused = name + ".all";
    add({.parameter = name + ".q", .tensor = fused, .shape = {d, d}});
    add({.parameter = name + ".k",
         .tensor = fused,
         .col0 = w,
         .shape = {d, d},
         .transposed = true});
    add({.parameter = name + ".v", .tensor = fused, .col0 = 2 * w, .shape = {d, d}});
    add({.parameter = name + ".mix", .tensor = fused, .col0 = 3 * w, .shape = {d, d}});
  }
  add({.parameter = "head.scale", .tensor = "head.scale", .shape = {d}});
  map.tied.push_back({"head.weight", "embed", "head.weight is not embed"});
  return map;
}

class ToyFamily final : public ModelFamily {
 public:
  std::string name() const override { return "toy"; }
  std::string title() const override { return "Toy"; }
  std::string files_text() const override { return "names of the toy's own"; }
  std::vector<std::string> model_names() const override { return {"toy-small"}; }
  ModelConfigPtr named(const std::string& name) const override {
    return name == "toy-small" ? toy_model({}) : nullptr;
  }
  Result<ModelConfigPtr> read(std::string_view json, const std::string& path) const override {
    const auto object = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
    ToyConfig config;
    for (const auto& [name, member] :
         {std::pair("layers", &ToyConfig::layers), std::pair("width", &ToyConfig::width),
          std::pair("vocabulary", &ToyConfig::vocabulary),
          std::pair("context", &ToyConfig::context)}) {
      if (!object.is_object() || !object.contains(name) || !object[name].is_number_unsigned()) {
        return make_error(ErrorKind::kInvalid, "load model", path, std::string(name) + ": missing");
      }
      config.*member = object[name].get<std::uint32_t>();
    }
    return toy_model(config);
  }
};

std::unique_ptr<ModelUnits> add_toy_units(ModelSpec& spec, const ModelConfig& model) {
  return std::make_unique<ToyUnits>(spec, dynamic_cast<const ToyModel&>(model).config());
}

}  // namespace

const ModelFamily& toy_family() {
  static const ToyFamily family;
  return family;
}

ModelConfigPtr toy_model(const ToyConfig& config) {
  return std::make_shared<const ToyModel>(config);
}

void register_toy_family() {
  static std::once_flag once;
  std::call_once(once, [] {
    register_family(toy_family());
    register_units("toy", add_toy_units);
  });
}

// Written apart from the units: matrices by `@`-like products, no chunks, no constants from
// outside.
at::Tensor plain_toy_losses(const ToyConfig& config, const ToyParameters& parameters,
                            const Batch& batch) {
  const auto p = [&](const std::string& name) { return parameters.at(name); };
  const auto times = [](const at::Tensor& x, const at::Tensor& w) { return x.matmul(w.t()); };
  const double scale = 1.0 / std::sqrt(static_cast<double>(config.width));
  const at::Tensor table = p("shared.weight");
  at::Tensor memory = table.index_select(0, batch.source.flatten())
                          .view({batch.source.size(0), batch.source.size(1), config.width});
  memory = memory +
           times(at::embedding(p("features.table"), batch.source), p("encoder.input.mix")) +
           p("encoder.input.bias");
  for (std::uint32_t i = 0; i < config.layers; ++i) {
    const std::string name = "encoder." + std::to_string(i) + ".";
    const at::Tensor q = times(memory, p(name + "q")), k = times(memory, p(name + "k"));
    const at::Tensor weights = (q.bmm(k.transpose(1, 2)) * scale).softmax(-1);
    memory = memory + times(weights.bmm(times(memory, p(name + "v"))), p(name + "out"));
  }
  const std::int64_t length = batch.inputs.size(1);
  at::Tensor x = at::embedding(table, batch.inputs) * p("decoder.input.scale");
  x = x + positions_of(config).slice(0, 0, length);
  const at::Tensor mask = at::full({length, length}, -1e30).triu(1);
  for (std::uint32_t i = 0; i < config.layers; ++i) {
    const std::string name = "decoder." + std::to_string(i) + ".";
    const at::Tensor mixed = times(x, p(name + "mix"));
    x = x + (mixed.bmm(x.transpose(1, 2)) + mask).softmax(-1).bmm(mixed);
    const at::Tensor k = times(memory, p(name + "k")), v = times(memory, p(name + "v"));
    x = x + (times(x, p(name + "q")).bmm(k.transpose(1, 2)) * scale).softmax(-1).bmm(v);
  }
  const at::Tensor logits = times(x * p("head.scale"), table);
  const at::Tensor chosen = logits.log_softmax(-1).gather(2, batch.targets.unsqueeze(2)).squeeze(2);
  return batch.weights.defined() ? -chosen * batch.weights : -chosen;
}

}  // namespace spillway::trainer::testing
