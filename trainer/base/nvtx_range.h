// Marks ranges that NVIDIA's profilers show beside the GPU's kernels. Without a profiler, a call
// costs a load and a branch; in builds without CUDA, nothing.
#pragma once

#ifdef SPILLWAY_CUDA
#include <nvtx3/nvToolsExt.h>
#endif

namespace spillway::trainer {

#ifdef SPILLWAY_CUDA
inline void nvtx_push(const char* name) noexcept { nvtxRangePushA(name); }
inline void nvtx_pop() noexcept { nvtxRangePop(); }
#else
inline void nvtx_push(const char*) noexcept {}
inline void nvtx_pop() noexcept {}
#endif

}  // namespace spillway::trainer
