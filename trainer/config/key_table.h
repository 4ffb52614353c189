// The key table: every key that a configuration may have, and all that is known of it. Internal.
//
// To add a key, give Config a member and add a row in keys/. Nothing else knows the key by name,
// except what depends on several keys, which stands below the rows of its group. Type and default
// follow from the member:
//
//   {.path = "aio.queue_depth", .note = "operations in flight per thread",
//    .minimum = 1, .maximum = 4096,
//    .into = member(&Config::aio, &aio::EngineOptions::queue_depth)},
//
// The table is built once and never changes; any thread may read it.
#pragma once

#include <spillway/trainer/config.h>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/config/field.h"
#include "trainer/config/json_value.h"

namespace spillway::trainer {

using Problems = std::vector<std::string>;  // lines "key: what is wrong"

// A Config while values are written into it.
struct Draft {
  const ConfigInput* input = nullptr;
  Config config = {};
  std::map<std::string, KeyValue, std::less<>> values = {};  // by path; without "auto" and null

  // Returns the value of a key, or nullptr if it is absent, "auto" or null. REQUIRES: a known path.
  const KeyValue* given(std::string_view path) const;
};

// The types that the key SECTION.type may name, in any case, as DeepSpeed takes them.
struct TypeNames {
  std::string section;   // "optimizer" or "scheduler"
  std::string standard;  // the type without that key
  std::vector<std::string> built;
  std::vector<std::string> unbuilt;  // of DeepSpeed, refused

  // Returns the type of a configuration as written.
  std::string written(const Draft& draft) const;
  // Returns the type as listed; "" if it is not built.
  std::string of(const Draft& draft) const { return find(written(draft)); }
  std::string find(const std::string& written) const;
  // Returns false, with a problem, if a type is written that is not built.
  bool check(const Draft& draft, Problems& problems) const;
};
const TypeNames& optimizer_types();
const TypeNames& scheduler_types();

// A row. Values are written in the order of the table, so a row may rely on those above it.
struct KeyRule {
  std::string path;  // dotted, the canonical spelling
  KeyClass key_class = KeyClass::kUsed;
  ValueType type = ValueType::kBool;  // that of `into`, if there is one
  std::string standard = {};          // the default as JSON; empty: that of `into`, else false
  std::string note = {};
  std::vector<std::string> deprecated_names = {};  // dotted; reported with "use PATH"
  std::vector<std::string> other_names = {};       // as good as the path
  bool deprecated = false;                         // used; `note` says what to write instead
  bool may_be_auto = false;
  bool may_be_null = false;  // null: as if the key were absent
  double minimum = 0.0;
  double maximum = std::numeric_limits<double>::infinity();
  bool below_maximum = false;  // the maximum itself is out of range
  std::uint64_t multiple_of = 1;
  std::vector<std::string> choices = {};   // of a string; empty: any
  std::vector<std::string> of_types = {};  // optimizers or schedulers that take it; empty: all

  // How the value takes effect: written into a member, or passed to a function.
  Field into = {};
  std::function<void(Draft&, const KeyValue&)> apply = {};
  // What absence and "auto" mean, if that is not the default of `into`.
  std::function<void(Draft&)> when_absent = {};
  std::function<void(Draft&)> when_auto = {};  // empty: as when absent
  // Returns what "auto" became; empty: the value of `into`.
  std::function<std::string(const Draft&)> resolved = {};
  // Returns why the key has no effect in this configuration; "": it has one.
  std::function<std::string(const Draft&)> idle = {};
  // Returns what else to report.
  std::function<std::string(const Draft&)> remark = {};
};

// The groups of the table, in its order.
std::vector<KeyRule> batch_keys();
std::vector<KeyRule> zero_keys();
std::vector<KeyRule> aio_keys();
std::vector<KeyRule> optimizer_keys();
std::vector<KeyRule> schedule_keys();
std::vector<KeyRule> activation_keys();
std::vector<KeyRule> unused_keys();  // without effect here, or refused
// A row without effect, which may be null; `why` it has none.
KeyRule no_effect(const std::string& path, ValueType type, const std::string& standard,
                  const std::string& why);

// Resolve and check what depends on several keys of a group; called after all values are written.
void finish_batch(Draft& draft, Problems& problems);
void check_communication(const Draft& draft, Problems& problems);
void finish_zero(Draft& draft, Problems& problems);
void finish_optimizer(Draft& draft, Problems& problems);
void finish_schedule(Draft& draft, Problems& problems);
void finish_activation(Draft& draft, Problems& problems);
// Adds a problem if `device` is NVMe and `path`, of the key "SECTION.nvme_path", is empty.
void require_directory(const std::string& section, OffloadDevice device,
                       const std::filesystem::path& path, Problems& problems);

// In the order of the groups.
const std::vector<KeyRule>& key_rules();
// Returns the rule of a canonical path, or nullptr.
const KeyRule* find_rule(std::string_view canonical);
// True if the canonical path is a section: a proper prefix of keys.
bool is_section(const std::string& canonical);
// Returns the names of keys and sections directly inside a section ("" = the top), all spellings.
std::vector<std::string> names_in(const std::string& section);

struct Canonical {
  std::string path;
  bool deprecated = false;  // the written spelling is
};
Canonical canonical_spelling(const std::string& written);

// A problem is the text after "key: "; a warning comes with a value.
struct ReadValue {
  std::optional<KeyValue> value;  // empty: "auto", null, or a problem
  bool is_auto = false;
  std::string problem;
  std::string warning;
};
ReadValue read_value(const KeyRule& rule, const JsonValue& json);

// Returns the shortest text that reads back to the same number: 1, 0.001, 5e-08.
std::string number_text(double number);
// Returns a value for a report: numbers as number_text, strings without quotes, [0.9, 0.999].
std::string plain_text(const JsonValue& value);

}  // namespace spillway::trainer
