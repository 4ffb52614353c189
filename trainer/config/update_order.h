// UpdateOrder: when a step's tiles are updated. All orders give the same bits.
//
// kAuto is kBackward where weights and optimizer states lie on NVMe and gradients do not, if the
// drive has room; kForward wherever else one of the three is; kAfterBackward where there is no I/O
// to hide.
#pragma once

namespace spillway::trainer {

enum class UpdateOrder {
  kAuto,           // as above
  kAfterBackward,  // at the end of the step, which waits for it
  kForward,        // in the background, each unit before its next forward
  kBackward,       // from backward on, units whose gradients are final; the others as kForward
};
const char* to_string(UpdateOrder order);

}  // namespace spillway::trainer
