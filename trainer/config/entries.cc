#include "trainer/config/entries.h"

#include "trainer/base/nearest_name.h"
#include "trainer/config/key_table.h"

namespace spillway::trainer {
namespace {

std::string join(const std::string& section, const std::string& name) {
  return section.empty() ? name : section + "." + name;
}

}  // namespace

std::string unknown_key(const std::string& written) {
  // The first part that is wrong lies in the last section that is right.
  std::string section;
  std::string rest = written;
  for (std::size_t dot = rest.find('.'); dot != std::string::npos; dot = rest.find('.')) {
    const std::string inner = join(section, rest.substr(0, dot));
    if (!is_section(canonical_spelling(inner).path)) break;
    section = inner;
    rest = rest.substr(dot + 1);
  }
  const std::size_t dot = rest.find('.');
  const std::string name = rest.substr(0, dot);
  const std::string nearest = nearest_name(name, names_in(canonical_spelling(section).path));
  if (!nearest.empty()) {
    const std::string meant = dot == std::string::npos ? nearest : join(section, nearest);
    return "unknown key, did you mean '" + meant + "'?";
  }
  for (const KeyRule& rule : key_rules()) {
    if (dot == std::string::npos && rule.path.ends_with("." + name)) {
      return "unknown key, did you mean '" + rule.path + "'?";
    }
  }
  return "unknown key";
}

void ConfigEntries::add_document(const JsonDocument& document, std::vector<std::string>& problems) {
  for (const auto& [name, value] : document.root().members()) {
    walk(name, value, &document, problems);
  }
}

void ConfigEntries::add_override(const std::string& assignment,
                                 std::vector<std::string>& problems) {
  const std::size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    problems.push_back("override '" + assignment + "': expected key=value");
    return;
  }
  const std::string key = assignment.substr(0, equals);
  const std::string raw = assignment.substr(equals + 1);
  std::optional<JsonValue> value = parse_json(raw);
  const KeyRule* rule = find_rule(canonical_spelling(key).path);
  const bool text = rule != nullptr && rule->type == ValueType::kString;
  // Not JSON, or a text that looks like it: a directory may be called 7.
  if (!value || (text && !value->is_string() && !value->is_null())) value = raw;
  walk(key, *value, nullptr, problems);
}

void ConfigEntries::walk(const std::string& written, const JsonValue& value,
                         const JsonDocument* document, std::vector<std::string>& problems) {
  const Canonical canonical = canonical_spelling(written);
  const std::string place =
      " (" + (document == nullptr ? "override" : document->place(written)) + ")";
  if (!written.empty() && is_section(canonical.path)) {  // "" is the top, and no name
    if (!value.is_object() && !value.is_null()) {
      problems.push_back(written + ": a section {...} is expected, found " + text_of(value) +
                         place);
    }
    if (!value.is_object()) return;
    for (const auto& [name, inner] : value.members()) {
      walk(join(written, name), inner, document, problems);
    }
    return;
  }
  ConfigEntry entry{.key = written,
                    .note = canonical.deprecated ? "use " + canonical.path : "",
                    .rule = find_rule(canonical.path),
                    .value = value,
                    .place = place};
  if (document == nullptr) {
    replace(std::move(entry));
  } else {
    add_from_file(std::move(entry), problems);
  }
}

void ConfigEntries::add_from_file(ConfigEntry entry, std::vector<std::string>& problems) {
  for (const ConfigEntry& other : entries_) {
    if (entry.rule == nullptr || other.rule != entry.rule || other.value == entry.value) continue;
    problems.push_back(entry.key + ": " + text_of(entry.value) + " contradicts " + other.key +
                       ": " + text_of(other.value) + entry.place);
  }
  entries_.push_back(std::move(entry));
}

void ConfigEntries::replace(ConfigEntry entry) {
  std::erase_if(entries_, [&](const ConfigEntry& other) {
    return entry.rule != nullptr ? other.rule == entry.rule : other.key == entry.key;
  });
  entries_.push_back(std::move(entry));
}

const ConfigEntry* ConfigEntries::find(const std::string& canonical) const {
  for (const ConfigEntry& entry : entries_) {
    if (entry.rule != nullptr && entry.rule->path == canonical) return &entry;
  }
  return nullptr;
}

}  // namespace spillway::trainer
