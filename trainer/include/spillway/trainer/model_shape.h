// ModelShape: what an estimate needs to know of a model, whatever its family: the units, and in
// which order a step uses them.
//
// A family fills it in from a configuration (ModelConfig::shape). Plain data, no torch.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace spillway::trainer {

struct UnitShape {
  std::string name;             // "embedding", "block 0", ..., "head"
  std::uint64_t trainable = 0;  // elements that this unit owns
  std::uint64_t frozen = 0;
  std::vector<std::uint32_t> borrows = {};  // numbers of the units whose parameters it uses too

  // What forward with its graph keeps for a token of a sample of t tokens, with 16-bit activations:
  // graph_bytes + t x graph_bytes_per_token. Twice that in fp32. And fp32_bytes in either.
  double graph_bytes = 0;
  double graph_bytes_per_token = 0;
  double fp32_bytes = 0;
  // Multiplications, each with an addition, of forward for such a token: products + t x
  // products_per_token.
  double products = 0;
  double products_per_token = 0;

  std::uint64_t parameters() const { return trainable + frozen; }
};

// One call of zero::run in a step's forward.
struct UnitUse {
  std::uint32_t unit = 0;
  // Elements per token of the output, which waits for backward as another unit's input; 0: of the
  // last unit, whose output is the loss.
  std::uint64_t output_width = 0;
  bool has_backward = true;  // false: nothing trains in the unit nor in what its inputs come from
};

struct ModelShape {
  std::vector<UnitShape> units;
  std::vector<UnitUse> uses;     // in the order of forward; backward goes the other way
  std::uint32_t context = 0;     // most tokens of a sample
  std::uint64_t width = 0;       // of the hidden states
  std::uint64_t vocabulary = 0;  // tokens are below it
  // Sizes under the family's own names, for reports: {"n_layer", 12}, ...
  std::vector<std::pair<std::string, std::uint64_t>> sizes;
};

// Elements in all; what is borrowed counts once.
std::uint64_t parameter_count(const ModelShape& shape);

// Outputs that wait for backward, elements per token each, in the order of forward.
std::vector<std::uint64_t> waiting_widths(const ModelShape& shape);

}  // namespace spillway::trainer
