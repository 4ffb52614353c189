// Activations between units and gradients: what backward needs and leaves.
#include "trainer/config/key_table.h"

namespace spillway::trainer {
namespace {

// Why a key about the place of activations has no effect: the graph is kept, or the place is
// another one (`used`: it is not).
std::string unless_moved(const Draft& draft, bool used) {
  const ActivationConfig& activations = draft.config.activations;
  if (!activations.checkpointing) return "the graph is kept where it was made";
  return used ? "" : std::string("device is ") + to_string(activations.device);
}

constexpr const char* kAboutPath =
    "directory for swap files; absent: that of the offloaded states; not a DeepSpeed key";

std::vector<KeyRule> checkpointing_keys() {
  return {
      {.path = "activation_checkpointing.enabled",
       .note = "false: the forward's graph is kept, 6 instead of 8 operations a parameter and "
               "token; not a DeepSpeed key",
       .into = member(&Config::activations, &ActivationConfig::checkpointing)},
      {.path = "activation_checkpointing.device",
       .note = "where activations between units wait for backward; not a DeepSpeed key",
       .into = choice<OffloadDevice>({{"none", OffloadDevice::kNone},
                                      {"cpu", OffloadDevice::kCpu},
                                      {"nvme", OffloadDevice::kNvme}},
                                     &Config::activations, &ActivationConfig::device),
       .idle = [](const Draft& d) { return unless_moved(d, true); }},
      {.path = "activation_checkpointing.nvme_path",
       .note = kAboutPath,
       .may_be_null = true,
       .into = member(&Config::activations, &ActivationConfig::nvme_path),
       .idle =
           [](const Draft& d) {
             return unless_moved(d, d.config.activations.device == OffloadDevice::kNvme);
           }},
      {.path = "activation_checkpointing.cpu_checkpointing",
       .note = "device cpu, unless device says otherwise",
       .may_be_null = true,
       .apply =
           [](Draft& d, const KeyValue& v) {
             if (!v.boolean || d.given("activation_checkpointing.device") != nullptr) return;
             d.config.activations.device = OffloadDevice::kCpu;
           },
       .idle =
           [](const Draft& d) {
             return unless_moved(d, d.given("activation_checkpointing.device") == nullptr);
           }},
      no_effect("activation_checkpointing.partition_activations", ValueType::kBool, "false",
                "no layer is split over ranks, so none holds a copy of another's activations"),
      no_effect("activation_checkpointing.number_checkpoints", ValueType::kInteger, "null",
                "activations are checkpointed at the units' boundaries"),
      no_effect("activation_checkpointing.contiguous_memory_optimization", ValueType::kBool,
                "false", "an activation that is moved has one place, used again in every step"),
      no_effect("activation_checkpointing.synchronize_checkpoint_boundary", ValueType::kBool,
                "false",
                "nothing runs ahead of a unit's boundary that would have to be waited for"),
      no_effect("activation_checkpointing.profile", ValueType::kBool, "false",
                "--metrics writes JSON lines"),
  };
}

std::vector<KeyRule> gradient_keys() {
  return {
      {.path = "data_types.grad_accum_dtype",
       .note =
           "how gradients wait for the update; always summed in fp32, and rounded once for bf16",
       .may_be_null = true,
       .into = choice<Dtype>({{"fp32", Dtype::kFp32}, {"bf16", Dtype::kBf16}}, &Config::gradients,
                             &GradientConfig::dtype)},
      {.path = "zero_optimization.offload_gradients.device",
       .note = "\"auto\": NVMe when RAM cannot hold them; not a DeepSpeed key",
       .into = choice<std::optional<OffloadDevice>>(
           {{"auto", std::nullopt}, {"cpu", OffloadDevice::kCpu}, {"nvme", OffloadDevice::kNvme}},
           &Config::gradients, &GradientConfig::device)},
      {.path = "zero_optimization.offload_gradients.nvme_path",
       .note = kAboutPath,
       .may_be_null = true,
       .into = member(&Config::gradients, &GradientConfig::nvme_path),
       .idle = [](const Draft& d) -> std::string {
         return d.config.gradients.device == OffloadDevice::kCpu ? "device is cpu" : "";
       }},
  };
}

}  // namespace

std::vector<KeyRule> activation_keys() {
  std::vector<KeyRule> rules = checkpointing_keys();
  for (KeyRule& rule : gradient_keys()) rules.push_back(std::move(rule));
  return rules;
}

void finish_activation(Draft& draft, Problems& problems) {
  Config& config = draft.config;
  // One directory may serve all: that of the states is named already where they are on NVMe.
  const std::filesystem::path& states = !config.offload_optimizer.nvme_path.empty()
                                            ? config.offload_optimizer.nvme_path
                                            : config.offload_param.nvme_path;
  for (std::filesystem::path* path : {&config.activations.nvme_path, &config.gradients.nvme_path}) {
    if (path->empty()) *path = states;
  }
  require_directory("activation_checkpointing", config.activations.device,
                    config.activations.nvme_path, problems);
  require_directory("zero_optimization.offload_gradients",
                    config.gradients.device.value_or(OffloadDevice::kNone),
                    config.gradients.nvme_path, problems);
}

}  // namespace spillway::trainer
