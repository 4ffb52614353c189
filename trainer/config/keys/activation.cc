// Keys about what backward needs and leaves: activations between units, gradients.
#include "trainer/config/key_table.h"

namespace spillway::trainer {
namespace {

using Draft = ConfigDraft;
using Value = KeyValue;

constexpr auto kString = ValueType::kString;

KeyRule idle(const char* name, ValueType type, std::string standard, std::string why) {
  return {.path = std::string("activation_checkpointing.") + name,
          .key_class = KeyClass::kNoEffect,
          .type = type,
          .standard = std::move(standard),
          .note = std::move(why),
          .may_be_null = true};
}

std::vector<KeyRule> checkpointing_keys() {
  return {
      {.path = "activation_checkpointing.enabled",
       .standard = "true",
       .note = "false: the forward's graph is kept, 6 instead of 8 operations a parameter and "
               "token; not a DeepSpeed key",
       .apply = [](Draft& d, const Value& v) { d.config.activations.checkpointing = v.boolean; }},
      {.path = "activation_checkpointing.device",
       .type = kString,
       .standard = "\"none\"",
       .note = "where activations between units wait for backward; not a DeepSpeed key",
       .choices = {"none", "cpu", "nvme"},
       .apply =
           [](Draft& d, const Value& v) {
             d.activation_device = v.text == "cpu"    ? OffloadDevice::kCpu
                                   : v.text == "nvme" ? OffloadDevice::kNvme
                                                      : OffloadDevice::kNone;
           }},
      {.path = "activation_checkpointing.nvme_path",
       .type = kString,
       .standard = "null",
       .note = "directory for swap files; absent: that of the offloaded states; not a DeepSpeed "
               "key",
       .may_be_null = true,
       .apply = [](Draft& d, const Value& v) { d.config.activations.nvme_path = v.text; }},
      {.path = "activation_checkpointing.cpu_checkpointing",
       .standard = "false",
       .note = "device cpu, unless device says otherwise",
       .may_be_null = true,
       .apply = [](Draft& d, const Value& v) { d.cpu_checkpointing = v.boolean; }},
      idle("partition_activations", ValueType::kBool, "false",
           "no layer is split over ranks, so none holds a copy of another's activations"),
      idle("number_checkpoints", ValueType::kInteger, "null",
           "activations are checkpointed at the units' boundaries"),
      idle("contiguous_memory_optimization", ValueType::kBool, "false",
           "an activation that is moved has one place, used again in every step"),
      idle("synchronize_checkpoint_boundary", ValueType::kBool, "false",
           "nothing runs ahead of a unit's boundary that would have to be waited for"),
      idle("profile", ValueType::kBool, "false", "--metrics writes JSON lines"),
  };
}

std::vector<KeyRule> gradient_keys() {
  return {
      {.path = "data_types.grad_accum_dtype",
       .type = kString,
       .standard = "\"fp32\"",
       .note =
           "how gradients wait for the update; always summed in fp32, and rounded once for bf16",
       .may_be_null = true,
       .choices = {"fp32", "bf16"},
       .apply =
           [](Draft& d, const Value& v) {
             d.config.gradients.dtype = v.text == "bf16" ? Dtype::kBf16 : Dtype::kFp32;
           }},
      {.path = "zero_optimization.offload_gradients.device",
       .type = kString,
       .standard = "\"auto\"",
       .note = "\"auto\": NVMe when RAM cannot hold them; not a DeepSpeed key",
       .choices = {"auto", "cpu", "nvme"},
       .apply =
           [](Draft& d, const Value& v) {
             if (v.text == "auto") return;
             d.config.gradients.device =
                 v.text == "nvme" ? OffloadDevice::kNvme : OffloadDevice::kCpu;
           }},
      {.path = "zero_optimization.offload_gradients.nvme_path",
       .type = kString,
       .standard = "null",
       .note = "directory for swap files; absent: that of the offloaded states; not a DeepSpeed "
               "key",
       .may_be_null = true,
       .apply = [](Draft& d, const Value& v) { d.config.gradients.nvme_path = v.text; }},
  };
}

}  // namespace

std::vector<KeyRule> activation_keys() {
  std::vector<KeyRule> rules = checkpointing_keys();
  for (KeyRule& rule : gradient_keys()) rules.push_back(std::move(rule));
  return rules;
}

void resolve_activations(ConfigDraft& draft, std::vector<std::string>& problems) {
  Config& config = draft.config;
  config.activations.device = draft.activation_device.value_or(
      draft.cpu_checkpointing ? OffloadDevice::kCpu : OffloadDevice::kNone);
  // One directory may serve all: the states' is named already where they are on NVMe.
  const std::filesystem::path& states = !config.offload_optimizer.nvme_path.empty()
                                            ? config.offload_optimizer.nvme_path
                                            : config.offload_param.nvme_path;
  for (std::filesystem::path* path : {&config.activations.nvme_path, &config.gradients.nvme_path}) {
    if (path->empty()) *path = states;
  }
  const auto require = [&](const char* section, bool on_nvme, const std::filesystem::path& path) {
    if (!on_nvme || !path.empty()) return;
    problems.push_back(std::string(section) + ".nvme_path: missing; " + section +
                       ".device is \"nvme\" and needs a directory for its swap files");
  };
  require("activation_checkpointing", config.activations.device == OffloadDevice::kNvme,
          config.activations.nvme_path);
  require("zero_optimization.offload_gradients", config.gradients.device == OffloadDevice::kNvme,
          config.gradients.nvme_path);
}

std::string activation_idle_reason(const std::string& key, const ConfigDraft& draft) {
  const Config& config = draft.config;
  const auto is = [&](const char* name) {
    return key == std::string("activation_checkpointing.") + name;
  };
  if (is("device") || is("nvme_path") || is("cpu_checkpointing")) {
    if (!config.activations.checkpointing) return "the graph is kept where it was made";
    if (is("nvme_path") && config.activations.device != OffloadDevice::kNvme) {
      return std::string("device is ") + to_string(config.activations.device);
    }
    if (is("cpu_checkpointing") && draft.activation_device) {
      return std::string("device is ") + to_string(config.activations.device);
    }
  }
  if (key == "zero_optimization.offload_gradients.nvme_path" &&
      config.gradients.device == OffloadDevice::kCpu) {
    return "device is cpu";
  }
  return {};
}

}  // namespace spillway::trainer
