// AdamW on the GPU: the arithmetic of adam.h, bit for bit, on planes in device memory.
//
// For optimizer states that live on the GPU. Any thread may call; nothing is allocated. Built only
// with a CUDA toolkit (target spillway::trainer_cuda), usable from files that see no CUDA header.
#pragma once

#include <spillway/aio/error.h>

#include <cstddef>

#include "spillway/trainer/adam.h"

namespace spillway::trainer {

// Enqueue the update of `count` elements on `stream` (a cudaStream_t; nullptr: the default stream)
// of the current device and return at once. The planes point to memory of that device and live
// until the stream has passed. Error: kIo, naming what CUDA answered to the launch.
Result<void> adam_update_cuda(const AdamConstants& constants, const AdamPlanesBf16& planes,
                              std::size_t count, void* stream);
Result<void> adam_update_cuda(const AdamConstants& constants, const AdamPlanesFp32& planes,
                              std::size_t count, void* stream);

}  // namespace spillway::trainer
