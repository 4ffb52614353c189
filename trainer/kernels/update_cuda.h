// The update on the GPU: the arithmetic of update.h, bit for bit, on planes in device
// memory.
//
// For optimizer states that live on the GPU, in fp32. Any thread may call; nothing is allocated.
// Built only with a CUDA toolkit (target spillway::trainer_cuda), usable from files that see no
// CUDA header.
#pragma once

#include <spillway/aio/error.h>

#include <cstdint>

#include "trainer/kernels/update.h"

namespace spillway::trainer {

// Enqueue the update of elements [first, first + count) on `stream` (a cudaStream_t; nullptr: the
// default stream) of the current device and return at once. The planes point to memory of that
// device and live until the stream has passed; the pieces are read before it returns.
// REQUIRES: states in fp32. Error: kIo, naming what CUDA answered to the launch.
Result<void> update_range_cuda(const UpdateConstants& constants, const UpdatePlanes& planes,
                               std::uint64_t first, std::uint64_t count, void* stream);

}  // namespace spillway::trainer
