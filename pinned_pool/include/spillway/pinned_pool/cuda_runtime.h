// CudaStatus: the CUDA runtime, opened at run time (dlopen), so that nothing here links CUDA.
//
// It is opened once per process, on first use. Without CUDA, cuda_register returns kUnsupported.
// Threads: any.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <cstddef>
#include <string>

namespace spillway::pinned_pool {

struct CudaStatus {
  int device_count = 0;
  std::string reason;  // why device_count is 0: "libcudart.so not found", "no CUDA device", ...
};
// Returns the number of devices, or the reason for none.
SPILLWAY_API CudaStatus cuda_status();

// Calls cudaHostRegister with the portable flag; kUnsupported without CUDA. A failure is in the
// Result alone: CUDA's last error is cleared, so that no later kernel is blamed for it.
SPILLWAY_API Result<void> cuda_register(void* memory, std::size_t size_bytes);
// Calls cudaHostUnregister. REQUIRES: `cuda_register` succeeded for this memory.
SPILLWAY_API void cuda_unregister(void* memory) noexcept;

}  // namespace spillway::pinned_pool
