#include "trainer/plan/update_constants.h"

namespace spillway::trainer {

UpdateConstants update_constants(const Config& config, std::uint64_t step, double learning_rate,
                                 float grad_scale) {
  const OptimizerConfig& optimizer = config.optimizer;
  return UpdateConstants::at_step({.kind = optimizer.kind,
                                   .learning_rate = learning_rate,
                                   .beta1 = optimizer.beta1,
                                   .beta2 = optimizer.beta2,
                                   .epsilon = optimizer.epsilon,
                                   .weight_decay = optimizer.weight_decay,
                                   .seed = config.seed},
                                  step, grad_scale);
}

}  // namespace spillway::trainer
