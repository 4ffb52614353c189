#include "trainer/config/key_table.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

namespace spillway::trainer {
namespace {

// Written spelling -> canonical one. Sections end in '.' and come before keys inside them.
const std::vector<Spelling>& spelling_table() {
  static const std::vector<Spelling> kTable = [] {
    std::vector<Spelling> table{
        {"zero_optimization.aio.", "aio."},
        {"bfloat16.", "bf16."},
        {"zero_optimization.stage3_gather_fp16_weights_on_model_save",
         "zero_optimization.stage3_gather_16bit_weights_on_model_save"},
        {"zero_optimization.gather_fp16_weights_on_model_save",
         "zero_optimization.stage3_gather_16bit_weights_on_model_save"},
        {"zero_optimization.cpu_offload_params", "zero_optimization.cpu_offload_param"},
        {"aio.thread_count", "aio.intra_op_parallelism"},
        {"aio.num_threads", "aio.intra_op_parallelism"},
    };
    for (const char* name :
         {"prefetch_bucket_size", "param_persistence_threshold", "model_persistence_threshold",
          "max_live_parameters", "max_reuse_distance", "gather_16bit_weights_on_model_save"}) {
      table.push_back({std::string("zero_optimization.") + name,
                       std::string("zero_optimization.stage3_") + name, /*deprecated=*/false});
    }
    return table;
  }();
  return kTable;
}

std::string parent_of(const std::string& path) {
  const std::size_t dot = path.rfind('.');
  return dot == std::string::npos ? std::string() : path.substr(0, dot);
}

std::string name_of(const std::string& path) {
  const std::size_t dot = path.rfind('.');
  return dot == std::string::npos ? path : path.substr(dot + 1);
}

// Section -> the names in it, in the table's order.
using Sections = std::map<std::string, std::vector<std::string>>;

void add_path(Sections& sections, const std::string& path) {
  const std::string parent = parent_of(path);
  std::vector<std::string>& names = sections[parent];
  if (std::find(names.begin(), names.end(), name_of(path)) == names.end()) {
    names.push_back(name_of(path));
  }
  if (!parent.empty()) add_path(sections, parent);
}

const Sections& section_table() {
  static const Sections kSections = [] {
    Sections sections;
    for (const KeyRule& rule : key_rules()) add_path(sections, rule.path);
    for (const Spelling& spelling : spelling_table()) {
      if (spelling.written.back() != '.') add_path(sections, spelling.written);
    }
    return sections;
  }();
  return kSections;
}

}  // namespace

const std::vector<KeyRule>& key_rules() {
  static const std::vector<KeyRule> kRules = [] {
    std::vector<KeyRule> rules;
    for (auto part : {used_keys(), optimizer_keys(), activation_keys(), unused_keys()}) {
      for (KeyRule& rule : part) rules.push_back(std::move(rule));
    }
    return rules;
  }();
  return kRules;
}

std::span<const Spelling> spellings() { return spelling_table(); }

const KeyRule* find_rule(const std::string& canonical) {
  for (const KeyRule& rule : key_rules()) {
    if (rule.path == canonical) return &rule;
  }
  return nullptr;
}

bool is_section(const std::string& canonical) { return section_table().contains(canonical); }

std::vector<std::string> names_in(const std::string& section) {
  const auto found = section_table().find(section);
  return found == section_table().end() ? std::vector<std::string>() : found->second;
}

Canonical canonical_spelling(const std::string& written) {
  Canonical result{.path = written};
  for (const Spelling& spelling : spelling_table()) {
    const bool section = spelling.written.back() == '.';
    // A section is matched by its own name and by what lies inside it.
    const std::string_view prefix =
        section ? std::string_view(spelling.written).substr(0, spelling.written.size() - 1)
                : std::string_view(spelling.written);
    const bool matches =
        result.path == prefix || (section && result.path.starts_with(spelling.written));
    if (!matches) continue;
    const std::string_view canonical =
        section ? std::string_view(spelling.canonical).substr(0, spelling.canonical.size() - 1)
                : std::string_view(spelling.canonical);
    result.path = std::string(canonical) + result.path.substr(prefix.size());
    result.deprecated |= spelling.deprecated;
  }
  return result;
}

std::vector<KnownKey> known_keys() {
  std::vector<KnownKey> keys;
  for (const KeyRule& rule : key_rules()) {
    keys.push_back({rule.path, rule.key_class, rule.standard, rule.note});
  }
  return keys;
}

}  // namespace spillway::trainer
