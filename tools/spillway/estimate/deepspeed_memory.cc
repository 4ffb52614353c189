#include "tools/spillway/estimate/deepspeed_memory.h"

#include <algorithm>
#include <map>

namespace spillway::tools {
namespace {

constexpr double kBufferFactor = 1.5;
constexpr double kFp32 = 4;        // as PyTorch makes a model, on every rank, without zero.Init
constexpr double kHalf = 2;        // 16-bit weights
constexpr double kStates = 16;     // fp32 weight, gradient, two moments
constexpr double kAll = 18;        // and the 16-bit weight, or a 16-bit gradient beside it
constexpr double kLayerBytes = 4;  // a gathered layer's 16-bit weights and gradients

}  // namespace

std::uint64_t largest_module_parameters(const trainer::TensorMap& tensors) {
  std::map<std::string, std::uint64_t> modules;
  std::uint64_t largest = 0;
  for (const trainer::MappedTensor& tensor : trainer::mapped_tensors(tensors)) {
    std::uint64_t elements = 1;
    for (const std::uint64_t size : tensor.shape) elements *= size;
    std::uint64_t& module = modules[tensor.name.substr(0, tensor.name.rfind('.'))];
    largest = std::max(largest, module += elements);
  }
  return largest;
}

std::vector<DeepspeedRow> deepspeed_memory(const DeepspeedInput& input) {
  const double n = input.parameters;
  const double ranks = input.gpus_per_node;  // of a node
  const double gpus = ranks * input.nodes;
  const double share = 1.0 / input.nodes;  // of the states, that one node holds
  const double layer = kLayerBytes * input.largest_layer_parameters;
  const double made_whole = kFp32 * ranks * n;
  const auto cpu = [](double bytes) { return bytes * kBufferFactor; };
  std::vector<DeepspeedRow> rows;
  for (const bool init : {true, false}) {
    const double held = init ? kAll * share * n : std::max(made_whole, kAll * share * n);
    rows.push_back({3, "cpu", "cpu", init, cpu(held), layer});
  }
  for (const bool init : {true, false}) {
    const double held = init ? kStates * share * n : std::max(made_whole, kStates * share * n);
    rows.push_back({3, "none", "cpu", init, cpu(held), layer + kHalf * n / gpus});
  }
  for (const bool init : {true, false}) {
    const double held = init ? kFp32 * ranks * input.largest_layer_parameters : made_whole;
    rows.push_back({3, "none", "none", init, cpu(held), layer + kAll * n / gpus});
  }
  rows.push_back({2, "none", "cpu", false, cpu(std::max(kFp32 * gpus, kStates) * n), kHalf * n});
  rows.push_back({2, "none", "none", false, cpu(made_whole), kHalf * n + kAll * n / gpus});
  return rows;
}

}  // namespace spillway::tools
