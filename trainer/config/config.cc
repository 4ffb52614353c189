#include <spillway/trainer/config.h>
#include <algorithm>
#include <set>
#include <utility>

#include "trainer/config/entries.h"
#include "trainer/config/key_table.h"

namespace spillway::trainer {
namespace {

// An entry of a known key and what was read from it.
struct ReadEntry {
  const ConfigEntry* entry;
  ReadValue read;
};

// True if the key belongs to an optimizer or scheduler that is refused by its type, so that its
// own parameters need no problem of theirs.
bool of_refused_type(const ConfigEntries& entries, const std::string& key) {
  for (const TypeNames* types : {&optimizer_types(), &scheduler_types()}) {
    if (!key.starts_with(types->section + ".params.")) continue;
    const ConfigEntry* type = entries.find(types->section + ".type");
    return type != nullptr && type->value.is_string() && types->find(type->value.string()).empty();
  }
  return false;
}

ReadEntry read_entry(const ConfigEntry& entry, Problems& problems) {
  const KeyRule& rule = *entry.rule;
  ReadValue read = read_value(rule, entry.value);
  if (!read.problem.empty()) {
    problems.push_back(entry.key + ": " + read.problem + entry.place);
  } else if (read.value && rule.key_class == KeyClass::kRefused &&
             *read.value != *read_value(rule, *parse_json(rule.standard)).value) {
    problems.push_back(entry.key + ": " + text_of(entry.value) +
                       " would change results and is not built (" + rule.note + ")" + entry.place);
  }
  return {&entry, std::move(read)};
}

std::vector<ReadEntry> read_entries(const ConfigEntries& entries, Problems& problems) {
  std::vector<ReadEntry> all;
  for (const ConfigEntry& entry : entries.entries()) {
    if (of_refused_type(entries, entry.key)) continue;
    if (entry.rule == nullptr) {
      problems.push_back(entry.key + ": " + unknown_key(entry.key) + entry.place);
    } else {
      all.push_back(read_entry(entry, problems));
    }
  }
  return all;
}

// Writes all values in the order of the table.
void write_values(const std::vector<ReadEntry>& entries, Draft& draft) {
  std::set<const KeyRule*> are_auto;
  for (const auto& [entry, read] : entries) {
    if (read.value) draft.values.insert_or_assign(entry->rule->path, *read.value);
    if (read.is_auto) are_auto.insert(entry->rule);
  }
  for (const KeyRule& rule : key_rules()) {
    const KeyValue* value = draft.given(rule.path);
    if (value != nullptr) {
      if (rule.into.write) rule.into.write(draft.config, *value);
      if (rule.apply) rule.apply(draft, *value);
    } else if (rule.when_auto && are_auto.contains(&rule)) {
      rule.when_auto(draft);
    } else if (rule.when_absent) {
      rule.when_absent(draft);
    }
  }
}

// Finds parameters of another type of optimizer or scheduler than the one that is written.
void check_parameters(const TypeNames& types, const ConfigEntries& entries, const Draft& draft,
                      Problems& problems) {
  const std::string type = types.of(draft);
  if (type.empty()) return;
  for (const ConfigEntry& entry : entries.entries()) {
    if (entry.rule == nullptr || entry.rule->of_types.empty() || entry.value.is_null()) continue;
    if (!entry.rule->path.starts_with(types.section + ".")) continue;
    if (std::ranges::find(entry.rule->of_types, type) != entry.rule->of_types.end()) continue;
    problems.push_back(entry.key + ": " + types.written(draft) + " has no such parameter" +
                       entry.place);
  }
}

KeyReport report_of(const ReadEntry& read_entry, const Draft& draft) {
  const auto& [entry, read] = read_entry;
  const KeyRule& rule = *entry->rule;
  KeyReport report;
  report.key = entry->key;
  const auto add = [&](const std::string& note) {
    if (!note.empty()) report.note += (report.note.empty() ? "" : "; ") + note;
  };
  std::string idle = rule.idle ? rule.idle(draft) : "";
  if (rule.key_class == KeyClass::kNoEffect) idle = rule.note;
  if (rule.key_class == KeyClass::kRefused) idle = "not built, and off: " + rule.note;
  if (!read.value && !read.is_auto) idle = "null is as if the key were absent";
  if (!idle.empty()) report.fate = KeyFate::kNoEffect;
  if (read.is_auto) {
    report.fate = KeyFate::kResolved;
    add("auto -> " +
        (rule.resolved ? rule.resolved(draft) : plain_text(rule.into.read(draft.config))));
  }
  if (rule.deprecated || !entry->note.empty() || !read.warning.empty()) {
    report.fate = KeyFate::kDeprecated;
    add(entry->note);
    add(read.warning);
    if (rule.deprecated) add(rule.note);
  }
  add(idle);
  if (rule.remark) add(rule.remark(draft));
  return report;
}

}  // namespace

double TunedDrive::seconds_for(std::uint64_t read_bytes, std::uint64_t written_bytes) const {
  const double read = static_cast<double>(read_bytes) / 1e9;
  const double written = static_cast<double>(written_bytes) / 1e9;
  const double both = std::min(read, written);
  double seconds = 0;
  for (const auto& [gb, gb_per_second] :
       {std::pair(2 * both, mix_gb_per_second), std::pair(read - both, read_gb_per_second),
        std::pair(written - both, write_gb_per_second)}) {
    if (gb <= 0) continue;
    if (gb_per_second <= 0) return 0;
    seconds += gb / gb_per_second;
  }
  return seconds;
}

const char* to_string(UpdateOrder order) {
  switch (order) {
    case UpdateOrder::kAuto:
      return "auto";
    case UpdateOrder::kAfterBackward:
      return "after_backward";
    case UpdateOrder::kForward:
      return "forward";
    case UpdateOrder::kBackward:
      return "backward";
  }
  return "?";
}

bool keeps_generations(const Config& config) {
  return resolved_update_order(config) == UpdateOrder::kBackward &&
         config.offload_optimizer.device == OffloadDevice::kNvme &&
         config.gradients.device != OffloadDevice::kNvme;
}

UpdateOrder resolved_update_order(const Config& config) {
  if (config.update_order != UpdateOrder::kAuto) return config.update_order;
  const bool weights = config.offload_param.device == OffloadDevice::kNvme;
  const bool states = config.offload_optimizer.device == OffloadDevice::kNvme;
  const bool gradients = config.gradients.device == OffloadDevice::kNvme;
  if (weights && states && !gradients) return UpdateOrder::kBackward;
  return weights || states || gradients ? UpdateOrder::kForward : UpdateOrder::kAfterBackward;
}

const char* to_string(OffloadDevice device) {
  switch (device) {
    case OffloadDevice::kNone:
      return "none";
    case OffloadDevice::kCpu:
      return "cpu";
    case OffloadDevice::kNvme:
      return "nvme";
  }
  return "none";
}

Result<ConfigResult> load_config(const ConfigInput& input) {
  Result<JsonDocument> document = JsonDocument();
  if (!input.file.empty()) document = JsonDocument::read(input.file);
  if (!document) return tl::unexpected(document.error());

  ConfigEntries entries;
  Problems problems;
  entries.add_document(*document, problems);
  for (const std::string& assignment : input.overrides) entries.add_override(assignment, problems);

  Draft draft{.input = &input};
  const std::vector<ReadEntry> read = read_entries(entries, problems);
  write_values(read, draft);
  finish_zero(draft, problems);
  finish_activation(draft, problems);
  check_communication(draft, problems);
  finish_optimizer(draft, problems);
  finish_schedule(draft, problems);
  check_parameters(optimizer_types(), entries, draft, problems);
  check_parameters(scheduler_types(), entries, draft, problems);
  finish_batch(draft, problems);
  if (!problems.empty()) {
    std::string lines;
    for (const std::string& problem : problems) lines += (lines.empty() ? "" : "\n") + problem;
    return make_error(ErrorKind::kInvalid, "check configuration", input.file.string(), lines);
  }
  ConfigResult result{.config = draft.config, .keys = {}};
  for (const ReadEntry& one : read) result.keys.push_back(report_of(one, draft));
  return result;
}

}  // namespace spillway::trainer
