#include <spillway/trainer/config.h>
#include <algorithm>
#include <utility>

#include "trainer/config/entries.h"
#include "trainer/config/key_table.h"

namespace spillway::trainer {
namespace {

using Problems = std::vector<std::string>;

// What one entry came to, until the report can say what "auto" became.
struct AppliedEntry {
  const ConfigEntry* entry;
  ReadValue read;
};

// Whether the entry belongs to an optimizer or scheduler that is refused by its type, so that its
// own parameters need no complaint of theirs.
bool of_refused_type(const ConfigEntries& entries, const std::string& key) {
  auto refused = [&](const char* type_key, bool (*is_built)(const std::string&)) {
    const ConfigEntry* type = entries.find(type_key);
    return type != nullptr && type->value.is_string() && !is_built(type->value.string());
  };
  if (key.starts_with("optimizer.params.")) return refused("optimizer.type", optimizer_is_built);
  return key.starts_with("scheduler.params.") && refused("scheduler.type", scheduler_is_built);
}

AppliedEntry apply_entry(const ConfigEntry& entry, ConfigDraft& draft, Problems& problems) {
  AppliedEntry applied{&entry, read_value(*entry.rule, entry.value)};
  const KeyRule& rule = *entry.rule;
  const ReadValue& read = applied.read;
  if (!read.problem.empty()) {
    problems.push_back(entry.key + ": " + read.problem + entry.place);
  } else if (read.is_auto && rule.apply_auto != nullptr) {
    rule.apply_auto(draft);
  } else if (read.value && rule.apply != nullptr) {
    rule.apply(draft, *read.value);
  } else if (read.value && rule.key_class == KeyClass::kRefused) {
    const JsonValue harmless = *parse_json(rule.standard);
    if (*read.value != *read_value(rule, harmless).value) {
      problems.push_back(entry.key + ": " + text_of(entry.value) +
                         " would change results and is not built (" + rule.note + ")" +
                         entry.place);
    }
  }
  return applied;
}

void check_offload(const char* name, const OffloadConfig& offload, Problems& problems) {
  if (offload.device != OffloadDevice::kNvme || !offload.nvme_path.empty()) return;
  const std::string section = std::string("zero_optimization.") + name;
  problems.push_back(section + ".nvme_path: missing; " + section +
                     ".device is \"nvme\" and needs a directory for its swap files");
}

void resolve_zero(ConfigDraft& draft, Problems& problems) {
  Config& config = draft.config;
  config.offload_param.device = draft.param_device.value_or(
      draft.cpu_offload_param ? OffloadDevice::kCpu : OffloadDevice::kNone);
  config.offload_optimizer.device = draft.optimizer_device.value_or(
      draft.cpu_offload_optimizer ? OffloadDevice::kCpu : OffloadDevice::kNone);
  for (OffloadConfig* offload : {&config.offload_param, &config.offload_optimizer}) {
    if (!offload->pin_memory) offload->pin_memory = draft.cpu_offload_pin_memory;
  }
  check_offload("offload_param", config.offload_param, problems);
  check_offload("offload_optimizer", config.offload_optimizer, problems);
  // One rank holds all states at any stage; on several, stage 3 is what is built.
  if (draft.stage < 3 && draft.input->world_size > 1) {
    problems.push_back("zero_optimization.stage: " + std::to_string(draft.stage) + " on " +
                       std::to_string(draft.input->world_size) +
                       " ranks is not built; stage 3 gives the same results");
  }
}

void check_communication(const ConfigDraft& draft, Problems& problems) {
  const std::string& type = draft.communication_data_type;
  const std::string dtype = draft.config.dtype == Dtype::kBf16 ? "bf16" : "fp32";
  if (type.empty() || type == dtype || (type == "bfp16" && dtype == "bf16")) return;
  problems.push_back("communication_data_type: \"" + type + "\" with training in " + dtype +
                     " would change results and is not built");
}

// Parameters of another type of optimizer or scheduler. `type`: one that is built.
void check_parameters(const std::string& prefix, const std::string& type,
                      bool (*takes)(const std::string&, const std::string&),
                      const ConfigEntries& entries, Problems& problems) {
  for (const ConfigEntry& entry : entries.entries()) {
    if (!entry.key.starts_with(prefix) || entry.rule == nullptr) continue;
    if (entry.value.is_null() || takes(type, entry.key.substr(prefix.size()))) continue;
    problems.push_back(entry.key + ": " + type + " has no such parameter" + entry.place);
  }
}

// Why a key that is used in other configurations does nothing in this one; "" when it is used.
std::string idle_reason(const std::string& key, const ConfigDraft& draft) {
  const Config& config = draft.config;
  if (key == "zero_optimization.stage" && draft.stage < 3) {
    return "one rank holds all states at any stage";
  }
  for (const auto& [name, offload] : {std::pair("offload_param.", &config.offload_param),
                                      std::pair("offload_optimizer.", &config.offload_optimizer)}) {
    if (!key.starts_with(std::string("zero_optimization.") + name)) continue;
    const bool about_nvme = key.ends_with(".nvme_path") || key.ends_with(".max_in_cpu");
    const bool unused = (about_nvme && offload->device != OffloadDevice::kNvme) ||
                        (key.ends_with(".pin_memory") && offload->device == OffloadDevice::kNone);
    if (unused) return std::string("device is ") + to_string(offload->device);
  }
  if (key.starts_with("scheduler.params.") && draft.scheduler_type.empty()) {
    return "there is no scheduler.type";
  }
  return activation_idle_reason(key, draft);
}

KeyReport report_of(const AppliedEntry& applied, const ConfigDraft& draft) {
  const ConfigEntry& entry = *applied.entry;
  const KeyRule& rule = *entry.rule;
  KeyReport report;
  report.key = entry.key;
  auto add = [&](const std::string& note) {
    if (!note.empty()) report.note += (report.note.empty() ? "" : "; ") + note;
  };
  std::string idle = rule.key_class == KeyClass::kUsed ? idle_reason(rule.path, draft) : rule.note;
  if (rule.key_class == KeyClass::kRefused) idle = "not built, and off: " + rule.note;
  if (!applied.read.value && !applied.read.is_auto) idle = "null is as if the key were absent";
  if (!idle.empty()) report.fate = KeyFate::kNoEffect;
  if (applied.read.is_auto) {
    report.fate = KeyFate::kResolved;
    add("auto -> " + rule.resolved(draft));
  }
  if (rule.deprecated || !entry.note.empty() || !applied.read.warning.empty()) {
    report.fate = KeyFate::kDeprecated;
    add(entry.note);
    add(applied.read.warning);
    if (rule.deprecated) add(rule.note);
  }
  add(idle);
  if (rule.path == "optimizer.type" && !draft.weight_decay) {
    add("weight_decay " + number_text(draft.config.optimizer.weight_decay) + " by default");
  }
  return report;
}

Problems apply_all(const ConfigEntries& entries, ConfigDraft& draft,
                   std::vector<AppliedEntry>& applied) {
  Problems problems;
  for (const ConfigEntry& entry : entries.entries()) {
    if (of_refused_type(entries, entry.key)) continue;
    if (entry.rule == nullptr) {
      problems.push_back(entry.key + ": " + unknown_key(entry.key) + entry.place);
    } else {
      applied.push_back(apply_entry(entry, draft, problems));
    }
  }
  resolve_zero(draft, problems);
  resolve_activations(draft, problems);
  check_communication(draft, problems);
  resolve_optimizer(draft, problems);
  resolve_scheduler(draft, problems);
  if (optimizer_is_built(draft.optimizer_type)) {
    check_parameters("optimizer.params.", draft.optimizer_type, optimizer_takes, entries, problems);
  }
  if (scheduler_is_built(draft.scheduler_type)) {
    check_parameters("scheduler.params.", draft.scheduler_type, scheduler_takes, entries, problems);
  }
  if (const std::string wrong = resolve_batch_sizes(draft); !wrong.empty()) {
    problems.push_back(wrong);
  }
  return problems;
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

  ConfigDraft draft;
  draft.input = &input;
  draft.config.offload_param.max_in_cpu_elements = OffloadConfig::kAutoCache;
  draft.config.offload_optimizer.max_in_cpu_elements = OffloadConfig::kAutoCache;
  std::vector<AppliedEntry> applied;
  for (std::string& problem : apply_all(entries, draft, applied)) {
    problems.push_back(std::move(problem));
  }
  if (!problems.empty()) {
    std::string lines;
    for (const std::string& problem : problems) lines += (lines.empty() ? "" : "\n") + problem;
    return make_error(ErrorKind::kInvalid, "check configuration", input.file.string(), lines);
  }
  ConfigResult result{.config = draft.config, .keys = {}};
  for (const AppliedEntry& one : applied) result.keys.push_back(report_of(one, draft));
  return result;
}

}  // namespace spillway::trainer
