// Tensors in RAM that live from unit to unit (activations and their gradients), on their own pages.
//
// malloc returns a large block to the system only if nothing behind it is in use, and a kernel's
// temporary often takes the room that the tensor before it left. Then offloading frees nothing:
// with 8 units of 8 MiB an activation, 24 MiB were held for it. Any thread. Internal to device.
#pragma once

#include <ATen/core/Tensor.h>

namespace spillway::trainer {

// Like at::empty on the CPU. Memory of 1 MiB and more returns to the system with the tensor. Throws
// Failure if there is none.
at::Tensor empty_on_own_pages(at::IntArrayRef sizes, const at::TensorOptions& options);

}  // namespace spillway::trainer
