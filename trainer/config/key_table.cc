#include "trainer/config/key_table.h"

#include <spillway/aio/check.h>
#include <algorithm>
#include <array>
#include <map>

#include "trainer/config/json_document.h"

namespace spillway::trainer {
namespace {

struct Section {
  std::string_view deprecated;
  std::string_view canonical;
};
constexpr std::array kSections{Section{"zero_optimization.aio", "aio"},
                               Section{"bfloat16", "bf16"}};

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
  static const Sections kTable = [] {
    Sections sections;
    for (const KeyRule& rule : key_rules()) add_path(sections, rule.path);
    for (const KeyRule& rule : key_rules()) {
      for (const auto* names : {&rule.deprecated_names, &rule.other_names}) {
        for (const std::string& name : *names) add_path(sections, name);
      }
    }
    return sections;
  }();
  return kTable;
}

KeyRule completed(KeyRule rule) {
  if (rule.into.read) {
    rule.type = rule.into.type;
    if (!rule.into.choices.empty()) rule.choices = rule.into.choices;
    const JsonValue value = rule.into.read(Config());
    if (rule.standard.empty())
      rule.standard = value.is_array() ? plain_text(value) : text_of(value);
  }
  if (rule.standard.empty()) rule.standard = "false";
  return rule;
}

}  // namespace

const std::vector<KeyRule>& key_rules() {
  static const std::vector<KeyRule> kRules = [] {
    std::vector<KeyRule> rules;
    for (const auto& group : {batch_keys(), zero_keys(), aio_keys(), optimizer_keys(),
                              schedule_keys(), activation_keys(), unused_keys()}) {
      for (const KeyRule& rule : group) rules.push_back(completed(rule));
    }
    return rules;
  }();
  return kRules;
}

const KeyValue* Draft::given(std::string_view path) const {
  SPILLWAY_CHECK(find_rule(path) != nullptr, "the key has a row in the table");
  const auto found = values.find(path);
  return found == values.end() ? nullptr : &found->second;
}

const KeyRule* find_rule(std::string_view canonical) {
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
  for (const auto& [deprecated, canonical] : kSections) {
    const bool inside = written.starts_with(std::string(deprecated) + ".");
    if (!inside && written != deprecated) continue;
    result = {std::string(canonical) + written.substr(deprecated.size()), /*deprecated=*/true};
  }
  const auto has = [&](const std::vector<std::string>& names) {
    return std::ranges::find(names, result.path) != names.end();
  };
  for (const KeyRule& rule : key_rules()) {
    const bool deprecated = has(rule.deprecated_names);
    if (!deprecated && !has(rule.other_names)) continue;
    return {rule.path, result.deprecated || deprecated};
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
