// The constants of one update, from the configuration. Apart from the layouts, which a reader of
// checkpoints needs without the arithmetic of the update.
#pragma once

#include <spillway/trainer/config.h>
#include "trainer/kernels/update.h"

#include <cstdint>

namespace spillway::trainer {

// Of a step (counted from 1) at a learning rate.
UpdateConstants update_constants(const Config& config, std::uint64_t step, double learning_rate,
                                 float grad_scale);

}  // namespace spillway::trainer
