// The key table: every key a configuration may have, and how it is treated. Internal to config.
//
// A key is used (apply), accepted without effect here (note says why), or refused at any value but
// its harmless one because it would change results and is not built (note says what). "auto" and
// null stand for "as if the key were absent".
#pragma once

#include <spillway/trainer/config.h>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "trainer/config/json_value.h"

namespace spillway::trainer {

enum class ValueType { kBool, kInteger, kNumber, kNumberPair, kString };

// A value of the type that the rule asks for; the other members are empty.
struct KeyValue {
  bool operator==(const KeyValue&) const = default;

  bool boolean = false;
  std::uint64_t integer = 0;
  double number = 0.0;
  double second = 0.0;  // of a pair
  std::string text = {};
};

// What the keys said, before defaults that depend on other keys are filled in.
struct ConfigDraft {
  Config config;
  const ConfigInput* input = nullptr;
  std::optional<std::uint64_t> train_batch_size, micro_batch_size, accumulation_steps;
  std::optional<OffloadDevice> param_device, optimizer_device, activation_device;
  bool cpu_offload_param = false, cpu_offload_optimizer = false;  // deprecated spellings
  bool cpu_checkpointing = false;
  std::optional<bool> cpu_offload_pin_memory;
  std::uint32_t stage = 3;
  std::string communication_data_type;
  std::string optimizer_type = "AdamW";
  std::optional<double> learning_rate, epsilon;
  std::optional<std::pair<double, double>> betas;
  bool adam_w_mode = true;
  std::optional<double> weight_decay;
  std::string scheduler_type;
  std::optional<double> warmup_max_lr;
  bool warmup_max_lr_is_auto = false;
  std::optional<std::uint64_t> total_num_steps;
};

struct KeyRule {
  std::string path;  // dotted, the canonical spelling
  KeyClass key_class = KeyClass::kUsed;
  ValueType type = ValueType::kBool;
  std::string standard = "false";  // the default here, as JSON
  std::string note = {};
  bool deprecated = false;  // used all the same; `note` says what to write instead
  bool may_be_auto = false;
  bool may_be_null = false;
  double minimum = 0.0;
  double maximum = std::numeric_limits<double>::infinity();
  bool below_maximum = false;  // maximum itself is out
  std::uint64_t multiple_of = 1;
  std::vector<std::string> choices = {};  // of a string; empty = any
  void (*apply)(ConfigDraft&, const KeyValue&) = nullptr;
  // For the few where "auto" differs from an absent key.
  void (*apply_auto)(ConfigDraft&) = nullptr;
  // What "auto" became, once the draft is complete.
  std::string (*resolved)(const ConfigDraft&) = nullptr;
};

struct Spelling {
  std::string written;  // dotted; ends in '.' for a whole section
  std::string canonical;
  bool deprecated = true;  // false: as good as the canonical one
};

// Built once, never changed. In the order of the reference.
const std::vector<KeyRule>& key_rules();
std::span<const Spelling> spellings();

// The rule of a canonical path, or nullptr.
const KeyRule* find_rule(const std::string& canonical);
// Whether the canonical path is a section: a proper prefix of keys.
bool is_section(const std::string& canonical);
// Names of keys and sections directly inside a section ("" = the top), all spellings.
std::vector<std::string> names_in(const std::string& section);

struct Canonical {
  std::string path;
  bool deprecated = false;
};
Canonical canonical_spelling(const std::string& written);

// Reads `value` as the rule asks. A problem is what follows "key: "; a warning comes with a value.
struct ReadValue {
  std::optional<KeyValue> value;  // empty: absent ("auto", null), or a problem
  bool is_auto = false;
  std::string problem;
  std::string warning;
};
ReadValue read_value(const KeyRule& rule, const JsonValue& json);

// The parts of the table.
std::vector<KeyRule> used_keys();
std::vector<KeyRule> optimizer_keys();
std::vector<KeyRule> activation_keys();
std::vector<KeyRule> unused_keys();  // accepted without effect, and refused

// Shortest text that reads back to the same number: 0.001, 5e-08.
std::string number_text(double number);

// Fills micro, accumulation and train batch size from those given.
// Returns what is wrong with them, "" = nothing.
std::string resolve_batch_sizes(ConfigDraft& draft);
// Checks optimizer.type, scheduler.type and what depends on them; appends problems.
void resolve_optimizer(ConfigDraft& draft, std::vector<std::string>& problems);
void resolve_scheduler(ConfigDraft& draft, std::vector<std::string>& problems);
// Fills in where activations and gradients go; appends problems.
void resolve_activations(ConfigDraft& draft, std::vector<std::string>& problems);
// Why one of their keys does nothing in this configuration; "" when it is used.
std::string activation_idle_reason(const std::string& key, const ConfigDraft& draft);
// Whether the named optimizer or scheduler takes this parameter. REQUIRES: one that is built.
bool optimizer_takes(const std::string& type, const std::string& parameter);
bool scheduler_takes(const std::string& type, const std::string& parameter);
// Whether the type is known and built.
bool optimizer_is_built(const std::string& type);
bool scheduler_is_built(const std::string& type);

}  // namespace spillway::trainer
