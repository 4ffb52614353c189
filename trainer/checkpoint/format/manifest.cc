#include <spillway/trainer/checkpoint_manifest.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "trainer/files/sealed_json.h"
#include "trainer/plan/checkpoint_planes.h"

namespace spillway::trainer {
namespace {

using nlohmann::ordered_json;

constexpr const char* kManifestKind = "spillway checkpoint";
constexpr std::uint64_t kMost = std::uint64_t{1} << 62;
constexpr std::uint64_t kMostElements = std::uint64_t{1} << 48;  // of a parameter
constexpr std::uint64_t kMostRanks = std::uint64_t{1} << 20;

const std::vector<std::string> kKinds{"AdamW", "Adam", "Lion", "Adagrad"};
const std::vector<std::string> kDtypes{"fp32", "bf16"};
const std::vector<std::string> kStateDtypes{"fp32", "bf16", "int8"};

constexpr std::uint64_t kMostOfModel = std::numeric_limits<std::uint32_t>::max();
constexpr int kMostDepth = 4;

// The format knows no family; a family checks what its model says. Here: an object that can be
// written again, whose whole numbers fit 32 bits.
void check_model(const ordered_json& json, JsonFields& fields, int depth = 0) {
  if (depth > kMostDepth) return fields.refuse("'model' is nested too deeply");
  for (const ordered_json& value : json) {
    if (value.is_structured()) {
      check_model(value, fields, depth + 1);
    } else if (value.is_number_integer() &&
               !(value.is_number_unsigned() && value.get<std::uint64_t>() <= kMostOfModel)) {
      fields.refuse("a whole number in 'model' must be one of at most " +
                    std::to_string(kMostOfModel));
    }
  }
}

CheckpointParameter read_parameter(const ordered_json& json, JsonFields& fields) {
  CheckpointParameter parameter;
  parameter.name = fields.text(json, "name");
  parameter.frozen = fields.flag(json, "frozen");
  std::uint64_t elements = 1;
  const ordered_json& shape = fields.array(json, "shape");
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const std::uint64_t size = fields.element(shape, i, kMostElements);
    parameter.shape.push_back(static_cast<std::int64_t>(size));
    if (size > 0 && elements > kMostElements / size) {
      fields.refuse("parameter '" + parameter.name + "' has too many elements");
      return parameter;
    }
    elements *= size;
  }
  return parameter;
}

ordered_json json_of(const CheckpointPlanes& planes) {
  ordered_json json = ordered_json::array();
  for (std::size_t i = 0; i < planes.all.size(); ++i) {
    const swapper::Plane& plane = planes.all[i];
    json.push_back({{"name", plane.name},
                    {"bytes_per_block", plane.bytes_per_block},
                    {"elements_per_block", plane.elements_per_block},
                    {"of_frozen_parameters", i < planes.weight_count}});
  }
  return json;
}

Result<void> check_head(const ordered_json& json, const std::string& name) {
  JsonFields fields(name);
  const std::string kind = fields.text(json, "kind");
  const std::uint64_t version = fields.number(json, "format_version", kMost);
  if (kind != kManifestKind) fields.refuse("it is no manifest of a checkpoint");
  if (auto outcome = fields.outcome(); !outcome) return outcome;
  if (version >= 1 && version <= kCheckpointVersion) return {};
  return make_error(ErrorKind::kUnsupported, "read checkpoint", name,
                    "format version " + std::to_string(version) +
                        "; this program reads up to version " + std::to_string(kCheckpointVersion));
}

void read_parameters(const ordered_json& json, JsonFields& fields, CheckpointManifest* manifest) {
  std::set<std::string> names;
  for (const ordered_json& parameter : fields.array(json, "parameters")) {
    manifest->parameters.push_back(read_parameter(parameter, fields));
    if (!names.insert(manifest->parameters.back().name).second) {
      fields.refuse("parameter '" + manifest->parameters.back().name + "' is there twice");
    }
  }
}

void read_shards(const ordered_json& json, JsonFields& fields, CheckpointManifest* manifest) {
  std::set<std::string> names;
  for (const ordered_json& shard : fields.array(json, "shards")) {
    manifest->shards.push_back({.index = fields.file_name(shard, "index"),
                                .size_bytes = fields.number(shard, "size_bytes", kMost),
                                .checksum = fields.hex(fields.text(shard, "checksum"))});
    if (!names.insert(manifest->shards.back().index).second)
      fields.refuse("a shard is there twice");
  }
  if (manifest->shards.empty() || manifest->shards.size() != manifest->world_size) {
    fields.refuse("world_size is not the number of shards");
  }
}

}  // namespace

const char* to_string(OptimizerKind kind) { return kKinds[static_cast<std::size_t>(kind)].c_str(); }
const char* to_string(Dtype dtype) { return kDtypes[static_cast<std::size_t>(dtype)].c_str(); }
const char* to_string(StateDtype dtype) {
  return kStateDtypes[static_cast<std::size_t>(dtype)].c_str();
}

std::uint64_t element_count(const CheckpointParameter& parameter) {
  std::uint64_t elements = 1;
  for (const std::int64_t size : parameter.shape) elements *= static_cast<std::uint64_t>(size);
  return elements;
}

std::string to_text(const CheckpointManifest& manifest) {
  ordered_json json{
      {"kind", kManifestKind},
      {"format_version", kCheckpointVersion},
      {"step", manifest.step},
      {"seed", manifest.seed},
      {"samples_seen", manifest.samples_seen},
      {"world_size", manifest.world_size},
      {"dtype", to_string(manifest.format.weights)},
      {"optimizer", to_string(manifest.format.kind)},
      {"state_dtype", to_string(manifest.format.states)},
      {"model", manifest.model.empty() ? ordered_json() : ordered_json::parse(manifest.model)},
      {"training", manifest.training},
      {"planes", json_of(checkpoint_planes(manifest.format))},
  };
  ordered_json& parameters = json["parameters"] = ordered_json::array();
  for (const CheckpointParameter& parameter : manifest.parameters) {
    parameters.push_back(
        {{"name", parameter.name}, {"shape", parameter.shape}, {"frozen", parameter.frozen}});
  }
  ordered_json& shards = json["shards"] = ordered_json::array();
  for (const CheckpointShard& shard : manifest.shards) {
    shards.push_back({{"index", shard.index},
                      {"size_bytes", shard.size_bytes},
                      {"checksum", hex_of(shard.checksum)}});
  }
  return seal(json);
}

Result<CheckpointManifest> parse_manifest(std::string_view text, const std::string& name) {
  auto unsealed = unseal(text, name);
  if (!unsealed) return tl::unexpected(unsealed.error());
  const ordered_json& json = *unsealed;
  if (auto head = check_head(json, name); !head) return tl::unexpected(head.error());
  JsonFields fields(name);
  CheckpointManifest manifest;
  manifest.step = fields.number(json, "step", kMost);
  manifest.seed = fields.number(json, "seed", std::numeric_limits<std::uint64_t>::max());
  manifest.samples_seen = fields.number(json, "samples_seen", kMost);
  manifest.world_size = static_cast<std::uint32_t>(fields.number(json, "world_size", kMostRanks));
  manifest.format.weights = static_cast<Dtype>(fields.choice(json, "dtype", kDtypes));
  manifest.format.kind = static_cast<OptimizerKind>(fields.choice(json, "optimizer", kKinds));
  manifest.format.states =
      static_cast<StateDtype>(fields.choice(json, "state_dtype", kStateDtypes));
  if (json.contains("model") && !json["model"].is_null()) {
    const ordered_json& model = fields.object(json, "model");
    check_model(model, fields);
    if (fields.good()) manifest.model = model.dump();
  }
  for (const auto& [key, value] : fields.object(json, "training").items()) {
    manifest.training[key] = fields.text(json["training"], key.c_str());
  }
  if (fields.array(json, "planes") != json_of(checkpoint_planes(manifest.format))) {
    fields.refuse("'planes' are not those of its optimizer and dtypes");
  }
  read_parameters(json, fields, &manifest);
  read_shards(json, fields, &manifest);
  if (auto outcome = fields.outcome(); !outcome) return tl::unexpected(outcome.error());
  return manifest;
}

}  // namespace spillway::trainer
