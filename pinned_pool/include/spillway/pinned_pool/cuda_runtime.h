// The CUDA runtime, opened at run time (dlopen), so that nothing here links CUDA.
//
// On a machine without it every call says so. Thread-safe; opened once per process on first use.
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
// What the runtime found, or why it cannot be used.
SPILLWAY_API CudaStatus cuda_status();

// cudaHostRegister with the portable flag; kUnsupported without CUDA.
SPILLWAY_API Result<void> cuda_register(void* memory, std::size_t size_bytes);
// cudaHostUnregister of memory that cuda_register took.
SPILLWAY_API void cuda_unregister(void* memory) noexcept;

}  // namespace spillway::pinned_pool
