// Tensors that live from unit to unit (activations and their gradients), on pages of their own.
//
// malloc gives a large block back to the system only when nothing behind it is in use, and by then
// a kernel's temporary has been put into the room that the tensor before it left. So nothing of
// what is moved away would be free: with 8 units and 8 MiB an activation, 24 MiB were held for it.
#pragma once

#include <ATen/core/Tensor.h>

namespace spillway::trainer {

// As at::empty. Memory of the CPU of 1 MiB and more goes back to the system with the tensor. Throws
// Failure when it cannot be had.
at::Tensor empty_on_own_pages(at::IntArrayRef sizes, const at::TensorOptions& options);

}  // namespace spillway::trainer
