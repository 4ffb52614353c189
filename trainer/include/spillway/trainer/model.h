// ModelFamily and ModelConfig: what the rest of the trainer knows of a model that it trains.
//
// A family reads configurations; a configuration describes one model: its units for an estimate,
// its tensors in the files of others, its texts. This half needs no torch. The other half
// (model_units.h) makes the units. Configurations are immutable and shared: by a run, what it saves
// and what it reports. Any thread may use them.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/trainer/model_shape.h>
#include <spillway/trainer/tensor_map.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::trainer {

class ModelFamily;
class ModelConfig;
using ModelConfigPtr = std::shared_ptr<const ModelConfig>;

// A model of the family's usual proportions, with its description.
struct SizedModel {
  ModelConfigPtr model;
  std::string name;  // "a model of width 64"
  std::string text;  // "12 layers, width 768, ..."
};

class ModelConfig {
 public:
  virtual ~ModelConfig() = default;

  virtual const ModelFamily& family() const = 0;
  // The numbers make a model: the units and their sizes.
  virtual ModelShape shape() const = 0;
  // How many blocks it says to have. Each has at least one tensor, so that a list as long as a
  // hostile configuration says is never made.
  virtual std::uint64_t block_count() const = 0;
  // The tensors of its files, in the order of the units' parameters.
  virtual TensorMap tensors() const = 0;

  // A JSON object with all of it, which `ModelFamily::read` reads back.
  virtual std::string json() const = 0;
  // config.json of Hugging Face. `torch_dtype`: "float32" or "bfloat16".
  virtual std::string hugging_face_json(const std::string& torch_dtype) const = 0;
  // One line: the kind of model and its sizes.
  virtual std::string summary() const = 0;
  // True if training draws dropout masks.
  virtual bool has_dropout() const { return false; }
  // What makes the weights of this model useless for `other`, a line each; empty: nothing.
  // REQUIRES: of the same family.
  virtual std::string differences(const ModelConfig& other) const = 0;

  // Models grow with `size`, from 1 on; the context and the vocabulary are this model's. Nothing
  // where the family has no usual proportions.
  virtual std::optional<SizedModel> of_size(std::uint32_t) const { return std::nullopt; }
};

class ModelFamily {
 public:
  virtual ~ModelFamily() = default;

  virtual std::string name() const = 0;   // as `model_type` in config.json
  virtual std::string title() const = 0;  // for messages
  // What a model of it is: "it is of a model that is no NOUN".
  virtual std::string noun() const { return title(); }
  // What its files are like, for the help of an export.
  virtual std::string files_text() const = 0;
  // Returns the names of the models that have one.
  virtual std::vector<std::string> model_names() const { return {}; }
  // Returns the model of this name; null if there is none.
  virtual ModelConfigPtr named(const std::string& /*name*/) const { return nullptr; }
  // Reads a JSON object. kInvalid names every problem, one per line; `path` is what errors call it.
  virtual Result<ModelConfigPtr> read(std::string_view json, const std::string& path) const = 0;
};

// Adds a family to the registry: one for the process, because a family is code. It has the families
// of this library from the start.
// REQUIRES: no family has this name; `family` lives until the end of the process.
void register_family(const ModelFamily& family);
// Returns all families.
std::vector<const ModelFamily*> model_families();
// Returns the family of this name; null if there is none.
const ModelFamily* find_family(const std::string& name);
// Returns the family of a configuration that names none: the first that existed.
const ModelFamily& default_family();

// `name_or_json_path`: a model's name, or a JSON file whose `model_type` names the family (absent:
// default_family). kNotFound when it is neither, kInvalid with every problem. Blocks while the file
// is read.
Result<ModelConfigPtr> load_model_config(const std::string& name_or_json_path);
// Of `directory`/config.json.
Result<ModelConfigPtr> load_hugging_face_config(const std::filesystem::path& directory);

// Returns the `model` of a checkpoint's manifest: the configuration, with the name of its family
// unless that is default_family (docs/format.md).
std::string saved_model(const ModelConfig& model);
// Reads such a `model`; kUnsupported for a family that is not registered. `name`: for errors.
Result<ModelConfigPtr> read_saved_model(const std::string& json, const std::string& name);

}  // namespace spillway::trainer
