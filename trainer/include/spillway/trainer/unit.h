// Unit: a torch::nn::Module whose parameters are fetched, used and released together.
//
// A user-written module needs nothing but to be a Unit: register parameters and submodules as
// usual, set requires_grad(false) on what is frozen, and write forward. Dimension 0 of every input
// and of the output counts samples: the engine runs a step's batch in chunks of micro-batches and
// runs forward again in backward, so forward must be a function of its inputs, the parameters and
// the ForwardContext alone: no running generators, and a unit that changes its buffers is refused.
// A parameter belongs to one unit; others borrow it. In an inference pass forward may change its
// inputs in place. Units do not nest.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/trainer/unit_id.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace spillway::trainer {

// What draws dropout's masks, as a checkpoint of a model with dropout names it.
inline constexpr const char* kDropoutGenerator = "philox4x32-10";

// What a forward may know about where it stands.
class ForwardContext {
 public:
  bool training = false;
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
  std::uint32_t unit = 0;
  std::uint64_t first_sample = 0;    // number, in the step's global batch, of the chunk's first
  std::vector<at::Tensor> borrowed;  // parameters of other units, in the order of UnitSpec::borrows
  // No backward follows: inputs may then be changed in place (a cache that is written to).
  bool inference = false;
  std::uint32_t method = 0;        // RunOptions::method of the call
  std::vector<at::Tensor> shared;  // constants of all samples: Pass::set_shared

  // Zeroes elements with probability p and scales the rest by 1 / (1 - p); returns x if not
  // training or p = 0. The mask depends on (seed, step, unit, site, sample) and nothing else, so
  // that recomputation, other chunk sizes, ranks and devices see the same. `site` numbers the
  // dropouts within a unit. x: [samples, ...], floating point; fp32 and bf16 are scaled in fp32.
  // Throws c10::ValueError if p is no probability.
  at::Tensor dropout(const at::Tensor& x, double p, std::uint32_t site) const;
};

class Unit : public torch::nn::Module {
 public:
  // Computes the output from `inputs`; dimension 0 of each counts the same samples.
  virtual at::Tensor forward(const std::vector<at::Tensor>& inputs,
                             const ForwardContext& context) = 0;
  // Returns what forward would return for inputs of 0 samples: an empty tensor with the trailing
  // sizes and the type. Undefined (the default): as the last output of this method for inputs of
  // the same trailing sizes, so that only a unit whose first batch may be empty overrides it.
  virtual at::Tensor empty_output(const std::vector<at::Tensor>& /*inputs*/,
                                  const ForwardContext& /*context*/) {
    return {};
  }
};

// A parameter of another unit that this one uses too (a tied embedding).
struct Borrow {
  UnitId owner = 0;
  std::string parameter;  // its name within the owner: "wte.weight"
};

struct UnitSpec {
  std::string name;  // prefix of its parameters' names: "transformer.h.3"
  // Makes the module with its initial values, in fp32 on the CPU, from torch's global generator
  // (which is seeded from the run's seed and the unit's number before). Called twice: once for the
  // shapes, once for the values, so that one unit at a time is in memory.
  std::function<std::shared_ptr<Unit>()> make;
  std::vector<Borrow> borrows;
};

// ModelSpec: the units of a model, in any order of use. Calls of zero::run make the graph.
class ModelSpec {
 public:
  // Adds a unit; returns its number.
  UnitId add(UnitSpec spec) {
    units_.push_back(std::move(spec));
    return static_cast<UnitId>(units_.size() - 1);
  }
  const std::vector<UnitSpec>& units() const noexcept { return units_; }

 private:
  std::vector<UnitSpec> units_;
};

// kOfSeed: drawn from Config::seed and written. kLoadedLater: load_checkpoint or
// set_initial_weights writes them before anything else uses them.
enum class InitialValues { kOfSeed, kLoadedLater };

}  // namespace spillway::trainer
