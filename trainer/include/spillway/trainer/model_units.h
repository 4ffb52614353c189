// ModelUnits: what a model computes: the half of a family that needs torch (model.h is the other).
//
// add_units puts a model's units into a ModelSpec; afterwards losses and logits come from a pass
// over them. All ranks make the same calls. Losses and logits run units by zero::run: they block,
// and throw what it throws.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/trainer/model.h>
#include <spillway/trainer/unit.h>
#include <spillway/trainer/zero.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace spillway::trainer {

// Samples of a batch, on the device where the units run. What is undefined is not given: every
// target then counts the same, positions count from 0, and a sample is one document.
struct Batch {
  at::Tensor inputs = {};     // tokens, int64 [samples, n]
  at::Tensor targets = {};    // the tokens that follow, int64 [samples, n]
  at::Tensor weights = {};    // of each target's loss, fp32 [samples, n]
  at::Tensor positions = {};  // of each input in its document, int64 [samples, n]
  at::Tensor documents =
      {};                  // which document of its sample an input belongs to, int64 [samples, n]
  at::Tensor source = {};  // what an encoder reads, int64 [samples, m]
};

// What a model keeps of the tokens that it has read. No family makes one yet.
class Cache {
 public:
  virtual ~Cache() = default;
};

// A unit to measure a machine's speed with.
struct UnitProbe {
  UnitId unit = 0;
  std::uint32_t uses = 1;  // how many of the model's take as long
  // Inputs of so many samples and tokens, of that type.
  std::function<std::vector<at::Tensor>(std::int64_t, std::int64_t, at::ScalarType)> inputs;
};

class ModelUnits {
 public:
  virtual ~ModelUnits() = default;

  // Loss of each target, in nats times its weight: fp32 [samples, n]. Failure (kUnsupported) for
  // what a batch gives and the model cannot use.
  virtual at::Tensor token_losses(zero::Pass& pass, const Batch& batch) const = 0;
  // Logits of the token after each sample's last input: fp32 [samples, vocabulary]. With a `cache`
  // the inputs are those after what it has seen; null: the inputs are all there is.
  virtual at::Tensor logits(zero::Pass& pass, const Batch& batch, Cache* cache) const = 0;
  // The units that take the time; empty: unknown.
  virtual std::vector<UnitProbe> probes() const { return {}; }
};

// Adds the units, in the order of ModelConfig::shape(), to `spec`, which has none yet.
std::unique_ptr<ModelUnits> add_units(ModelSpec& spec, const ModelConfig& model);

// A function that adds the units of a family's model to `spec`.
using UnitMaker = std::unique_ptr<ModelUnits> (*)(ModelSpec& spec, const ModelConfig& model);
// Registers the maker of a family. Those of built-in families are registered from the start.
void register_units(const std::string& family, UnitMaker maker);

// Throws Failure (kUnsupported) that names what `batch` gives beside inputs, targets and weights.
void require_plain_batch(const Batch& batch, const std::string& family);

}  // namespace spillway::trainer
