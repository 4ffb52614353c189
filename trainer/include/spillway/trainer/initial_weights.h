// Initial weights: starts a training from existing weights instead of random ones.
#pragma once

#include <spillway/aio/error.h>
#include "trainer/states/model_states.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace spillway::trainer {

// Fills `to` with values [first, first + to.size()) of a flattened parameter, by its full name
// ("transformer.h.3.ln_1.weight"). Called by one thread.
using WeightSource = std::function<Result<void>(const std::string& parameter, std::uint64_t first,
                                                std::span<float> to)>;

// Replaces all weights by those of `source` and all optimizer states by zeros, streamed tile by
// tile. The master weights are exactly the source's. A collective call: if one rank fails, all do.
// Blocks; throws Failure and Interrupted. REQUIRES: no update is running, no weights are in use.
void set_initial_weights(ModelStates& states, const WeightSource& source);

}  // namespace spillway::trainer
