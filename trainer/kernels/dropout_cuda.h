// Dropout on the GPU: the bits of dropout.h, on a tensor in device memory.
//
// Built only with a CUDA toolkit (target spillway::trainer_cuda), usable from files that see no
// CUDA header. Any thread may call; nothing is allocated.
#pragma once

#include <spillway/aio/error.h>

#include "trainer/kernels/dropout.h"

namespace spillway::trainer {

// Enqueues dropout of the tensor on `stream` (a cudaStream_t; nullptr: the default stream) of the
// current device and returns at once. The memory lives until the stream has passed. Error: kIo,
// naming what CUDA answered to the launch.
Result<void> dropout_cuda(const DropoutMask& mask, const DropoutTensor& tensor, void* stream);

}  // namespace spillway::trainer
