// UpdateOrder: when a step's tiles are updated. All orders give the same bits.
#pragma once

namespace spillway::trainer {

enum class UpdateOrder {
  kAuto,           // what is faster here
  kAfterBackward,  // at the end of the step, which waits for it
  kForward,        // in the background, each unit before its next forward
  kBackward,       // from backward on, units whose gradients are final; the others as kForward
};
const char* to_string(UpdateOrder order);

}  // namespace spillway::trainer
