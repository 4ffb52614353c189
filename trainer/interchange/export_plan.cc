#include "trainer/interchange/export_plan.h"

#include <cstdio>
#include <utility>

namespace spillway::trainer {
namespace {

TensorMap own_names(const CheckpointManifest& manifest) {
  TensorMap map;
  for (const CheckpointParameter& parameter : manifest.parameters) {
    map.slices.push_back(
        {.parameter = parameter.name, .tensor = parameter.name, .shape = parameter.shape});
  }
  return map;
}

std::string text_of(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t size : shape) text += (text.empty() ? "" : " x ") + std::to_string(size);
  return text;
}

// kInvalid names the first parameter that is not there, too many, or of another shape.
Result<void> check_parameters(const CheckpointManifest& manifest, const TensorMap& map,
                              const ModelFamily& family, const std::string& name) {
  const auto refuse = [&](std::string why) {
    return make_error(ErrorKind::kInvalid, kLayOutAs + family.title(), name, std::move(why));
  };
  const std::vector<TensorSlice>& wanted = map.slices;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (i >= manifest.parameters.size()) {
      return refuse("it has no parameter '" + wanted[i].parameter + "'");
    }
    const CheckpointParameter& found = manifest.parameters[i];
    if (found.name != wanted[i].parameter) {
      return refuse("parameter '" + found.name + "' stands where '" + wanted[i].parameter +
                    "' is expected");
    }
    if (found.shape != wanted[i].shape) {
      return refuse("parameter '" + found.name + "' is " + text_of(found.shape) + ", not " +
                    text_of(wanted[i].shape));
    }
  }
  if (manifest.parameters.size() == wanted.size()) return {};
  return refuse(family.title() + " has no place for parameter '" +
                manifest.parameters[wanted.size()].name + "'");
}

// The map of the checkpoint's model, which must be of the family.
Result<void> map_as(const ModelFamily& family, const CheckpointManifest& manifest,
                    const std::string& name, ExportPlan* plan) {
  const auto refuse = [&](std::string why) {
    return make_error(ErrorKind::kInvalid, kLayOutAs + family.title(), name, std::move(why));
  };
  if (manifest.model.empty()) return refuse("it is of a model that is no " + family.noun());
  auto model = read_saved_model(manifest.model, name);
  if (!model) return refuse(model.error().detail);
  if (&(*model)->family() != &family) return refuse("it is of a model that is no " + family.noun());
  // Before anything is made of the sizes that the manifest tells: each block has a parameter.
  if ((*model)->block_count() > manifest.parameters.size()) {
    return refuse("it has fewer parameters than blocks (n_layer)");
  }
  plan->model = std::move(*model);
  plan->map = plan->model->tensors();
  if (auto covered = check_coverage(plan->map, name); !covered) return covered;
  return check_parameters(manifest, plan->map, family, name);
}

// "model.safetensors", or "model-00002-of-00005.safetensors".
std::string file_name(std::size_t number, std::size_t count) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", number + 1, count);
  return name;
}

// Spreads the tensors over files of at most so many bytes.
void plan_files(const ExportOptions& options, ExportPlan* plan) {
  for (std::size_t i = 0; i < plan->tensors.size(); ++i) {
    SafeTensor tensor;
    tensor.name = plan->tensors[i].name;
    tensor.dtype = options.dtype == Dtype::kBf16 ? "BF16" : "F32";
    tensor.shape = plan->tensors[i].shape;
    std::uint64_t bytes = plan->value_bytes;
    for (const std::uint64_t size : tensor.shape) bytes *= size;
    const bool full = !plan->files.empty() &&
                      plan->files.back().tensors.back().end + bytes > options.max_shard_bytes;
    if (plan->files.empty() || full) {
      plan->files.emplace_back();
      plan->files.back().first = i;
    }
    PlannedFile& file = plan->files.back();
    tensor.begin = file.tensors.empty() ? 0 : file.tensors.back().end;
    tensor.end = tensor.begin + bytes;
    file.tensors.push_back(std::move(tensor));
  }
  for (std::size_t i = 0; i < plan->files.size(); ++i) {
    plan->files[i].name = file_name(i, plan->files.size());
    plan->files[i].header = safetensors_header(plan->files[i].tensors);
  }
}

}  // namespace

Result<void> check_layout(const CheckpointManifest& manifest, const ModelFamily& family,
                          const std::string& name) {
  ExportPlan plan;
  return map_as(family, manifest, name, &plan);
}

Result<void> plan_export(const CheckpointManifest& manifest, const ExportOptions& options,
                         const std::string& name, ExportPlan* plan) {
  if (options.layout != nullptr) {
    if (auto mapped = map_as(*options.layout, manifest, name, plan); !mapped) return mapped;
  } else {
    plan->map = own_names(manifest);
  }
  plan->tensors = mapped_tensors(plan->map);
  for (std::uint32_t i = 0; i < manifest.parameters.size(); ++i) {
    plan->numbers.emplace(manifest.parameters[i].name, i);
  }
  plan->group_values = options.group_values;
  plan->value_bytes = options.dtype == Dtype::kBf16 ? 2 : 4;
  plan_files(options, plan);
  return {};
}

}  // namespace spillway::trainer
