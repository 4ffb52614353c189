// Starting a training from weights that are there already, instead of random ones.
#pragma once

#include <spillway/aio/error.h>
#include "trainer/states/model_states.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace spillway::trainer {

// Gives values [first, first + to.size()) of a flattened parameter, by its full name
// ("transformer.h.3.ln_1.weight"). Called by one thread.
using WeightSource = std::function<Result<void>(const std::string& parameter, std::uint64_t first,
                                                std::span<float> to)>;

// Replaces all weights by the source's and all optimizer states by zeros, streamed tile by tile:
// master weights are the source's exactly. All ranks call it together; when one fails, all do. It
// blocks, and throws Failure and Interrupted. REQUIRES: no update is under way, and nobody holds or
// reads weights.
void set_initial_weights(ModelStates& states, const WeightSource& source);

}  // namespace spillway::trainer
