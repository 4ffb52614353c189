// A model family of the tests, as unlike GPT-2 as the seam allows: an encoder and a decoder, a
// table that is a unit of its own and borrowed by both and by the head, frozen parts, constants
// shared by all samples, units with two methods, and files in which parameters are fused or
// transposed.
#pragma once

#include <spillway/trainer/model.h>
#include <spillway/trainer/model_units.h>

#include <cstdint>
#include <map>
#include <string>

namespace spillway::trainer::testing {

struct ToyConfig {
  std::uint32_t layers = 2;  // of each stack
  std::uint32_t width = 64;
  std::uint32_t vocabulary = 64;
  std::uint32_t context = 8;  // of the source and of the target
};

const ModelFamily& toy_family();
ModelConfigPtr toy_model(const ToyConfig& config);
// Registers both halves, once.
void register_toy_family();

// The same model in plain torch: one graph, parameters by their full names.
using ToyParameters = std::map<std::string, at::Tensor>;
at::Tensor plain_toy_losses(const ToyConfig& config, const ToyParameters& parameters,
                            const Batch& batch);

}  // namespace spillway::trainer::testing
