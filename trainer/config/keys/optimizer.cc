// The optimizer. Its type decides the defaults of the parameters below it.
#include "trainer/config/key_table.h"

namespace spillway::trainer {
namespace {

// What DeepSpeed's constructors have where the configuration is silent (AdamW's decay: torch's).
OptimizerConfig defaults_of(const std::string& type) {
  OptimizerConfig defaults;
  if (type == "Lion") {
    defaults.kind = OptimizerKind::kLion;
    defaults.beta2 = 0.99;
    defaults.epsilon = 0;
  } else if (type == "Adagrad") {
    defaults.kind = OptimizerKind::kAdagrad;
    defaults.learning_rate = 1e-2;
    defaults.beta1 = defaults.beta2 = 0;
    defaults.epsilon = 1e-10;
  }
  if (type != "AdamW") defaults.weight_decay = 0;
  return defaults;
}

template <typename T>
Field parameter(T OptimizerConfig::*of) {
  return member(&Config::optimizer, of);
}

}  // namespace

const TypeNames& optimizer_types() {
  static const TypeNames kTypes{.section = "optimizer",
                                .standard = "AdamW",
                                .built = {"AdamW", "Adam", "Lion", "Adagrad"},
                                .unbuilt = {"Lamb", "OneBitAdam", "ZeroOneAdam", "OneBitLamb",
                                            "Muon", "MuAdam", "MuAdamW", "MuSGD", "SGD"}};
  return kTypes;
}

std::vector<KeyRule> optimizer_keys() {
  const Field betas{.type = ValueType::kNumberPair,
                    .write =
                        [](Config& c, const KeyValue& v) {
                          c.optimizer.beta1 = v.number;
                          c.optimizer.beta2 = v.second;
                        },
                    .read =
                        [](const Config& c) {
                          return JsonValue::array({c.optimizer.beta1, c.optimizer.beta2});
                        }};
  return {
      {.path = "optimizer.type",
       .type = ValueType::kString,
       .standard = "\"AdamW\"",
       .note = "AdamW, Adam, Lion, Adagrad",
       .apply = [](Draft& d,
                   const KeyValue&) { d.config.optimizer = defaults_of(optimizer_types().of(d)); },
       .remark = [](const Draft& d) -> std::string {
         if (d.given("optimizer.params.weight_decay") != nullptr) return "";
         return "weight_decay " + number_text(d.config.optimizer.weight_decay) + " by default";
       }},
      {.path = "optimizer.params.lr",
       .note = "Adagrad: 0.01",
       .may_be_auto = true,
       .into = parameter(&OptimizerConfig::learning_rate)},
      {.path = "optimizer.params.betas",
       .note = "Lion: [0.9, 0.99]; not of Adagrad",
       .may_be_auto = true,
       .maximum = 1,
       .below_maximum = true,
       .of_types = {"AdamW", "Adam", "Lion"},
       .into = betas},
      {.path = "optimizer.params.eps",
       .note = "Adagrad: 1e-10; not of Lion",
       .may_be_auto = true,
       .of_types = {"AdamW", "Adam", "Adagrad"},
       .into = parameter(&OptimizerConfig::epsilon)},
      {.path = "optimizer.params.weight_decay",
       .note = "as torch's AdamW (DeepSpeed's is 0); 0 for the other types",
       .may_be_auto = true,
       .into = parameter(&OptimizerConfig::weight_decay)},
      {.path = "optimizer.params.adam_w_mode",
       .standard = "true",
       .note = "type Adam: decoupled decay as AdamW; false: L2 in the gradient",
       .of_types = {"AdamW", "Adam"},
       .apply =
           [](Draft& d, const KeyValue& v) {
             if (v.boolean || optimizer_types().of(d) != "Adam") return;
             d.config.optimizer.kind = OptimizerKind::kAdam;
           }},
      {.path = "optimizer.params.state_dtype",
       .note = "\"bf16\" (2 bytes a state) and \"int8\" (1, blocks of 256) lose accuracy; not of "
               "Adagrad, whose sum would stop growing; not a DeepSpeed key",
       .into = choice<StateDtype>(
           {{"fp32", StateDtype::kFp32}, {"bf16", StateDtype::kBf16}, {"int8", StateDtype::kInt8}},
           &Config::optimizer, &OptimizerConfig::state_dtype)},
      {.path = "optimizer.params.decay_biases_and_norms",
       .note = "weight decay for biases and norms too; not a DeepSpeed key",
       .into = parameter(&OptimizerConfig::decay_biases_and_norms)},
  };
}

void finish_optimizer(Draft& draft, Problems& problems) {
  if (!optimizer_types().check(draft, problems)) return;
  const OptimizerConfig& optimizer = draft.config.optimizer;
  if (optimizer.kind == OptimizerKind::kAdagrad && optimizer.state_dtype != StateDtype::kFp32) {
    problems.push_back(
        "optimizer.params.state_dtype: Adagrad's sum of squares would stop growing in so few bits; "
        "its states are fp32");
  }
}

}  // namespace spillway::trainer
