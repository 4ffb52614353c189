// What DeepSpeed's own memory estimators say (estimate_zero2_model_states_mem_needs and
// estimate_zero3_model_states_mem_needs, DeepSpeed 0.19.8, by the formulas of its documentation's
// "Memory Requirements"): for those who plan with that table.
#pragma once

#include <spillway/trainer/tensor_map.h>

#include <cstdint>
#include <string>
#include <vector>

namespace spillway::tools {

struct DeepspeedInput {
  double parameters = 0;
  double largest_layer_parameters = 0;
  std::uint32_t gpus_per_node = 1;
  std::uint32_t nodes = 1;
};

struct DeepspeedRow {
  int stage = 3;
  std::string offload_param;      // "none" or "cpu"
  std::string offload_optimizer;  // "none" or "cpu"
  bool zero_init = false;         // of stage 3; stage 2 has none
  double cpu_bytes = 0;           // of a node
  double gpu_bytes = 0;           // of each GPU
};

// Returns the parameters of the largest module, which DeepSpeed calls the largest layer: those of
// its own, without its submodules'. A module holds the tensors whose names differ in the last word.
std::uint64_t largest_module_parameters(const trainer::TensorMap& tensors);

// Model states alone, no activations; CPU figures with DeepSpeed's safety factor of 1.5.
std::vector<DeepspeedRow> deepspeed_memory(const DeepspeedInput& input);

}  // namespace spillway::tools
