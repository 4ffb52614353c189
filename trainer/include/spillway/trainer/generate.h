// generate: continues a text token by token.
#pragma once

#include <spillway/trainer/model_units.h>

#include <cstdint>
#include <vector>

namespace spillway::trainer {

struct GenerateOptions {
  std::uint32_t tokens = 200;  // how many to add
  double temperature = 0.8;    // 0: always the most likely token
  std::uint64_t seed = 0;
};

// Continues `prompt` (at least one token), each token by a forward over the last `context` tokens.
// All ranks call it and get the same tokens. Blocks.
std::vector<std::int64_t> generate(zero::Pass& pass, const ModelUnits& units, std::uint32_t context,
                                   std::vector<std::int64_t> prompt,
                                   const GenerateOptions& options);

}  // namespace spillway::trainer
