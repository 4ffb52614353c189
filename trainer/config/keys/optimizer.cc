// Keys of the optimizer and the scheduler, and what their types decide.
#include <algorithm>
#include <array>
#include <cctype>
#include <tuple>

#include "trainer/config/key_table.h"
#include "trainer/config/nearest_name.h"

namespace spillway::trainer {
namespace {

using Draft = ConfigDraft;
using Value = KeyValue;

constexpr auto kInteger = ValueType::kInteger;
constexpr auto kNumber = ValueType::kNumber;
constexpr auto kString = ValueType::kString;

const std::vector<std::string> kOptimizers{"AdamW", "Adam", "Lion", "Adagrad"};
const std::vector<std::string> kUnbuiltOptimizers{
    "Lamb", "OneBitAdam", "ZeroOneAdam", "OneBitLamb", "Muon", "MuAdam", "MuAdamW", "MuSGD", "SGD"};
const std::vector<std::string> kSchedulers{"WarmupLR", "WarmupDecayLR", "WarmupCosineLR"};
const std::vector<std::string> kUnbuiltSchedulers{"OneCycle", "LRRangeTest"};

// What DeepSpeed's constructors have where the configuration is silent (AdamW's decay: torch's).
struct Defaults {
  double learning_rate, beta1, beta2, epsilon, weight_decay;
};

Defaults defaults_of(const std::string& name) {
  if (name == "Lion") return {1e-3, 0.9, 0.99, 0, 0};
  if (name == "Adagrad") return {1e-2, 0, 0, 1e-10, 0};
  return {1e-3, 0.9, 0.999, 1e-8, name == "AdamW" ? 0.01 : 0.0};
}

OptimizerKind kind_of(const std::string& name, bool adam_w_mode) {
  if (name == "Lion") return OptimizerKind::kLion;
  if (name == "Adagrad") return OptimizerKind::kAdagrad;
  return name == "Adam" && !adam_w_mode ? OptimizerKind::kAdam : OptimizerKind::kAdamW;
}

std::vector<KeyRule> parameter_keys() {
  return {
      {.path = "optimizer.type",
       .type = kString,
       .standard = "\"AdamW\"",
       .note = "AdamW, Adam, Lion, Adagrad",
       .apply = [](Draft& d, const Value& v) { d.optimizer_type = v.text; }},
      {.path = "optimizer.params.lr",
       .type = kNumber,
       .standard = "0.001",
       .note = "Adagrad: 0.01",
       .may_be_auto = true,
       .apply = [](Draft& d, const Value& v) { d.learning_rate = v.number; },
       .resolved = [](const Draft& d) { return number_text(d.config.optimizer.learning_rate); }},
      {.path = "optimizer.params.betas",
       .type = ValueType::kNumberPair,
       .standard = "[0.9, 0.999]",
       .note = "Lion: [0.9, 0.99]; not of Adagrad",
       .may_be_auto = true,
       .maximum = 1,
       .below_maximum = true,
       .apply = [](Draft& d, const Value& v) { d.betas.emplace(v.number, v.second); },
       .resolved =
           [](const Draft& d) {
             return "[" + number_text(d.config.optimizer.beta1) + ", " +
                    number_text(d.config.optimizer.beta2) + "]";
           }},
      {.path = "optimizer.params.eps",
       .type = kNumber,
       .standard = "1e-08",
       .note = "Adagrad: 1e-10; not of Lion",
       .may_be_auto = true,
       .apply = [](Draft& d, const Value& v) { d.epsilon = v.number; },
       .resolved = [](const Draft& d) { return number_text(d.config.optimizer.epsilon); }},
      {.path = "optimizer.params.weight_decay",
       .type = kNumber,
       .standard = "0.01",
       .note = "as torch's AdamW (DeepSpeed's is 0); 0 for the other types",
       .may_be_auto = true,
       .apply = [](Draft& d, const Value& v) { d.weight_decay = v.number; },
       .resolved = [](const Draft& d) { return number_text(d.config.optimizer.weight_decay); }},
      {.path = "optimizer.params.adam_w_mode",
       .standard = "true",
       .note = "type Adam: decoupled decay as AdamW; false: L2 in the gradient",
       .apply = [](Draft& d, const Value& v) { d.adam_w_mode = v.boolean; }},
      {.path = "optimizer.params.state_dtype",
       .type = kString,
       .standard = "\"fp32\"",
       .note = "\"bf16\" (2 bytes a state) and \"int8\" (1, blocks of 256) lose accuracy; not of "
               "Adagrad, whose sum would stop growing; not a DeepSpeed key",
       .choices = {"fp32", "bf16", "int8"},
       .apply =
           [](Draft& d, const Value& v) {
             d.config.optimizer.state_dtype = v.text == "int8"   ? StateDtype::kInt8
                                              : v.text == "bf16" ? StateDtype::kBf16
                                                                 : StateDtype::kFp32;
           }},
      {.path = "optimizer.params.decay_biases_and_norms",
       .note = "weight decay for biases and norms too; not a DeepSpeed key",
       .apply = [](Draft& d,
                   const Value& v) { d.config.optimizer.decay_biases_and_norms = v.boolean; }},
  };
}

std::vector<KeyRule> scheduler_keys() {
  return {
      {.path = "scheduler.type",
       .type = kString,
       .standard = "null",
       .note = "WarmupLR, WarmupDecayLR, WarmupCosineLR; absent: a constant rate",
       .may_be_null = true,
       .apply = [](Draft& d, const Value& v) { d.scheduler_type = v.text; }},
      {.path = "scheduler.params.warmup_min_lr",
       .type = kNumber,
       .standard = "0.0",
       .may_be_auto = true,
       .apply = [](Draft& d, const Value& v) { d.config.scheduler.warmup_min_lr = v.number; },
       .resolved = [](const Draft& d) { return number_text(d.config.scheduler.warmup_min_lr); }},
      {.path = "scheduler.params.warmup_max_lr",
       .type = kNumber,
       .standard = "null",
       .note = "absent: WarmupLR takes optimizer.params.lr, WarmupDecayLR 0.001; \"auto\": lr",
       .may_be_auto = true,
       .may_be_null = true,
       .apply = [](Draft& d, const Value& v) { d.warmup_max_lr = v.number; },
       .apply_auto = [](Draft& d) { d.warmup_max_lr_is_auto = true; },
       .resolved = [](const Draft& d) { return number_text(d.config.scheduler.warmup_max_lr); }},
      {.path = "scheduler.params.warmup_num_steps",
       .type = kInteger,
       .standard = "1000",
       .may_be_auto = true,
       .minimum = 1,
       .apply = [](Draft& d, const Value& v) { d.config.scheduler.warmup_num_steps = v.integer; },
       .resolved =
           [](const Draft& d) { return std::to_string(d.config.scheduler.warmup_num_steps); }},
      {.path = "scheduler.params.warmup_type",
       .type = kString,
       .standard = "\"log\"",
       .choices = {"log", "linear"},
       .apply = [](Draft& d, const Value& v) { d.config.scheduler.warmup_log = v.text == "log"; }},
      {.path = "scheduler.params.total_num_steps",
       .type = kInteger,
       .standard = "null",
       .note = "required for WarmupDecayLR and WarmupCosineLR; \"auto\": the run's steps",
       .may_be_auto = true,
       .may_be_null = true,
       .minimum = 1,
       .apply = [](Draft& d, const Value& v) { d.total_num_steps = v.integer; },
       .apply_auto = [](Draft& d) { d.total_num_steps = d.input->total_steps; },
       .resolved =
           [](const Draft& d) { return std::to_string(d.config.scheduler.total_num_steps); }},
      {.path = "scheduler.params.warmup_min_ratio",
       .type = kNumber,
       .standard = "0.0",
       .maximum = 1,
       .apply = [](Draft& d, const Value& v) { d.config.scheduler.warmup_min_ratio = v.number; }},
      {.path = "scheduler.params.cos_min_ratio",
       .type = kNumber,
       .standard = "0.0001",
       .maximum = 1,
       .apply = [](Draft& d, const Value& v) { d.config.scheduler.cos_min_ratio = v.number; }},
  };
}

// DeepSpeed compares types without case: "adamw" is AdamW. "" when not in the list.
std::string same_name(const std::string& type, const std::vector<std::string>& names) {
  auto lower = [](std::string text) {
    for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return text;
  };
  for (const std::string& name : names) {
    if (lower(name) == lower(type)) return name;
  }
  return {};
}

std::string wrong_type(const std::string& type, const std::vector<std::string>& built,
                       const std::vector<std::string>& unbuilt) {
  if (const std::string name = same_name(type, unbuilt); !name.empty()) {
    return name + " would change results and is not built";
  }
  std::string problem = "'" + type + "' is none of";
  for (const std::string& name : built) problem += " " + name;
  const std::string nearest = nearest_name(type, built);
  if (!nearest.empty()) problem += ", did you mean '" + nearest + "'?";
  return problem;
}

}  // namespace

std::vector<KeyRule> optimizer_keys() {
  std::vector<KeyRule> rules = parameter_keys();
  for (KeyRule& rule : scheduler_keys()) rules.push_back(std::move(rule));
  return rules;
}

bool optimizer_is_built(const std::string& type) { return !same_name(type, kOptimizers).empty(); }

bool optimizer_takes(const std::string& type, const std::string& parameter) {
  const std::string name = same_name(type, kOptimizers);
  if (parameter == "betas") return name != "Adagrad";
  if (parameter == "eps") return name != "Lion";
  if (parameter == "adam_w_mode") return name.starts_with("Adam");
  return true;
}

bool scheduler_is_built(const std::string& type) { return !same_name(type, kSchedulers).empty(); }

bool scheduler_takes(const std::string& type, const std::string& parameter) {
  static const std::array<const char*, 3> kAll{"warmup_num_steps", "warmup_type",
                                               "last_batch_iteration"};
  if (std::find(kAll.begin(), kAll.end(), parameter) != kAll.end()) return true;
  const std::string name = same_name(type, kSchedulers);
  if (parameter == "total_num_steps") return name != "WarmupLR";
  const bool of_cosine = parameter == "warmup_min_ratio" || parameter == "cos_min_ratio";
  return of_cosine == (name == "WarmupCosineLR");
}

void resolve_optimizer(ConfigDraft& draft, std::vector<std::string>& problems) {
  const std::string name = same_name(draft.optimizer_type, kOptimizers);
  if (name.empty()) {
    problems.push_back("optimizer.type: " +
                       wrong_type(draft.optimizer_type, kOptimizers, kUnbuiltOptimizers));
    return;
  }
  OptimizerConfig& optimizer = draft.config.optimizer;
  if (name == "Adagrad" && optimizer.state_dtype != StateDtype::kFp32) {
    problems.push_back(
        "optimizer.params.state_dtype: Adagrad's sum of squares would stop growing in so few bits; "
        "its states are fp32");
  }
  const Defaults defaults = defaults_of(name);
  optimizer.kind = kind_of(name, draft.adam_w_mode);
  optimizer.learning_rate = draft.learning_rate.value_or(defaults.learning_rate);
  std::tie(optimizer.beta1, optimizer.beta2) =
      draft.betas.value_or(std::pair(defaults.beta1, defaults.beta2));
  optimizer.epsilon = draft.epsilon.value_or(defaults.epsilon);
  optimizer.weight_decay = draft.weight_decay.value_or(defaults.weight_decay);
}

void resolve_scheduler(ConfigDraft& draft, std::vector<std::string>& problems) {
  SchedulerConfig& scheduler = draft.config.scheduler;
  if (draft.scheduler_type.empty()) return;
  const std::string name = same_name(draft.scheduler_type, kSchedulers);
  if (name.empty()) {
    problems.push_back("scheduler.type: " +
                       wrong_type(draft.scheduler_type, kSchedulers, kUnbuiltSchedulers));
    return;
  }
  const double learning_rate = draft.config.optimizer.learning_rate;
  scheduler.kind = name == "WarmupLR"        ? ScheduleKind::kWarmup
                   : name == "WarmupDecayLR" ? ScheduleKind::kWarmupDecay
                                             : ScheduleKind::kWarmupCosine;
  const bool from_optimizer = name == "WarmupLR" || draft.warmup_max_lr_is_auto;
  scheduler.warmup_max_lr = draft.warmup_max_lr.value_or(from_optimizer ? learning_rate : 1e-3);
  scheduler.total_num_steps = draft.total_num_steps.value_or(0);
  if (name != "WarmupLR" && scheduler.total_num_steps == 0) {
    problems.push_back("scheduler.params.total_num_steps: required for " + name +
                       " (\"auto\" takes the number of steps of the run)");
  }
}

}  // namespace spillway::trainer
