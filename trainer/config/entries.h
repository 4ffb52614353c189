// ConfigEntries: a configuration file and its overrides as one flat list of keys. Internal.
//
// Sections are walked, spellings made canonical, and unknown keys reported with the nearest right
// name of the same section. An override replaces the entry of the same key, however it was spelt.
#pragma once

#include <string>
#include <vector>

#include "trainer/config/json_document.h"

namespace spillway::trainer {

struct KeyRule;

struct ConfigEntry {
  std::string key;                // dotted, as written
  std::string note;               // "use aio.queue_depth", for a deprecated spelling
  const KeyRule* rule = nullptr;  // nullptr: unknown
  JsonValue value;
  std::string place;  // " (line 3, column 5)" or " (override)", to end a problem with
};

class ConfigEntries {
 public:
  void add_document(const JsonDocument& document, std::vector<std::string>& problems);
  // "a.b.c=value": the value is JSON if it parses as such, else a string.
  void add_override(const std::string& assignment, std::vector<std::string>& problems);

  const std::vector<ConfigEntry>& entries() const noexcept { return entries_; }
  // The entry of a canonical key, or nullptr.
  const ConfigEntry* find(const std::string& canonical) const;

 private:
  // `document` is nullptr for an override.
  void walk(const std::string& written, const JsonValue& value, const JsonDocument* document,
            std::vector<std::string>& problems);
  void add_from_file(ConfigEntry entry, std::vector<std::string>& problems);
  void replace(ConfigEntry entry);

  std::vector<ConfigEntry> entries_;
};

// "unknown key, did you mean 'x'?" for a key that neither a rule nor a section is called.
std::string unknown_key(const std::string& written);

}  // namespace spillway::trainer
