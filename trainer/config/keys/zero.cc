// Where parameters and optimizer states live, and when they are updated.
#include "trainer/config/key_table.h"

namespace spillway::trainer {
namespace {

using Offload = OffloadConfig Config::*;

std::vector<KeyRule> offload_keys(const std::string& section, Offload offload,
                                  const std::string& about_max_in_cpu) {
  const auto unless_nvme = [=](const Draft& d) -> std::string {
    const OffloadDevice device = (d.config.*offload).device;
    if (device == OffloadDevice::kNvme) return "";
    return std::string("device is ") + to_string(device);
  };
  return {
      {.path = section + ".device",
       .into = choice<OffloadDevice>({{"none", OffloadDevice::kNone},
                                      {"cpu", OffloadDevice::kCpu},
                                      {"nvme", OffloadDevice::kNvme}},
                                     offload, &OffloadConfig::device)},
      {.path = section + ".nvme_path",
       .note = "directory for swap files; required with device nvme",
       .may_be_null = true,
       .into = member(offload, &OffloadConfig::nvme_path),
       .idle = unless_nvme},
      {.path = section + ".max_in_cpu",
       .standard = "\"auto\"",
       .note = "elements cached in RAM; auto: what is free; " + about_max_in_cpu,
       .may_be_auto = true,
       .into = member(offload, &OffloadConfig::max_in_cpu_elements),
       .when_absent =
           [=](Draft& d) { (d.config.*offload).max_in_cpu_elements = OffloadConfig::kAutoCache; },
       .resolved = [](const Draft&) { return "what of the RAM is safely free"; },
       .idle = unless_nvme},
      {.path = section + ".pin_memory",
       .note = "absent: pinned when the limits allow it",
       .may_be_null = true,
       .into = member(offload, &OffloadConfig::pin_memory),
       .idle = [=](const Draft& d) -> std::string {
         return (d.config.*offload).device == OffloadDevice::kNone ? "device is none" : "";
       }},
  };
}

// The deprecated spelling of "device": "cpu", which has the last word where both are given.
KeyRule cpu_offload(const std::string& name, const std::string& section, Offload offload,
                    std::vector<std::string> older_names) {
  const std::string device = section + ".device";
  return {.path = "zero_optimization." + name,
          .note = "use " + device,
          .deprecated_names = std::move(older_names),
          .deprecated = true,
          .may_be_null = true,
          .apply = [=](Draft& d, const KeyValue& v) {
            if (!v.boolean || d.given(device) != nullptr) return;
            (d.config.*offload).device = OffloadDevice::kCpu;
          }};
}

constexpr const char* kParam = "zero_optimization.offload_param";
constexpr const char* kOptimizer = "zero_optimization.offload_optimizer";

}  // namespace

std::vector<KeyRule> zero_keys() {
  std::vector<KeyRule> rules{
      {.path = "zero_optimization.stage",
       .type = ValueType::kInteger,
       .standard = "3",
       .note = "states partitioned over the ranks",
       .maximum = 3,
       .idle = [](const Draft& d) -> std::string {
         const KeyValue* stage = d.given("zero_optimization.stage");
         const bool lower = stage != nullptr && stage->integer < 3;
         return lower ? "one rank holds all states at any stage" : "";
       }},
      {.path = "zero_optimization.sub_group_size",
       .note = "elements; an upper bound of a tile's size",
       .minimum = 1,
       .into = member(&Config::sub_group_size)},
  };
  for (const auto& part :
       {offload_keys(kParam, &Config::offload_param, "DeepSpeed's default is 1e9"),
        offload_keys(kOptimizer, &Config::offload_optimizer, "not a DeepSpeed key")}) {
    rules.insert(rules.end(), part.begin(), part.end());
  }
  const std::vector<KeyRule> others{
      {.path = std::string(kOptimizer) + ".update_order",
       .standard = "\"auto\"",
       .note = "when tiles are updated, the same bits; backward takes twice the space on NVMe, "
               "and auto takes four times as enough for it; not a DeepSpeed key",
       .may_be_auto = true,
       .into = choice<UpdateOrder>({{"after_backward", UpdateOrder::kAfterBackward},
                                    {"forward", UpdateOrder::kForward},
                                    {"backward", UpdateOrder::kBackward}},
                                   &Config::update_order),
       .resolved = [](const Draft& d) { return to_string(resolved_update_order(d.config)); }},
      cpu_offload("cpu_offload", kOptimizer, &Config::offload_optimizer, {}),
      cpu_offload("cpu_offload_param", kParam, &Config::offload_param,
                  {"zero_optimization.cpu_offload_params"}),
      {.path = "zero_optimization.cpu_offload_use_pin_memory",
       .note = "use pin_memory in offload_param and offload_optimizer",
       .deprecated = true,
       .may_be_null = true,
       .apply =
           [](Draft& d, const KeyValue& v) {
             for (auto* offload : {&d.config.offload_param, &d.config.offload_optimizer}) {
               if (!offload->pin_memory) offload->pin_memory = v.boolean;
             }
           }},
  };
  rules.insert(rules.end(), others.begin(), others.end());
  return rules;
}

void require_directory(const std::string& section, OffloadDevice device,
                       const std::filesystem::path& path, Problems& problems) {
  if (device != OffloadDevice::kNvme || !path.empty()) return;
  problems.push_back(section + ".nvme_path: missing; " + section +
                     ".device is \"nvme\" and needs a directory for its swap files");
}

void finish_zero(Draft& draft, Problems& problems) {
  const Config& config = draft.config;
  for (const auto& [section, offload] : {std::pair(kParam, &config.offload_param),
                                         std::pair(kOptimizer, &config.offload_optimizer)}) {
    require_directory(section, offload->device, offload->nvme_path, problems);
  }
  // One rank holds all states at any stage; on several, stage 3 is what is built.
  const KeyValue* stage = draft.given("zero_optimization.stage");
  if (stage != nullptr && stage->integer < 3 && draft.input->world_size > 1) {
    problems.push_back("zero_optimization.stage: " + std::to_string(stage->integer) + " on " +
                       std::to_string(draft.input->world_size) +
                       " ranks is not built; stage 3 gives the same results");
  }
}

}  // namespace spillway::trainer
