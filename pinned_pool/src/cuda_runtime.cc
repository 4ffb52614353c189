#include "spillway/pinned_pool/cuda_runtime.h"

#include <dlfcn.h>

namespace spillway::pinned_pool {
namespace {

// The five entry points that are used, as cuda_runtime_api.h declares them (cudaError_t is an int
// in the C ABI, 0 = success).
struct Runtime {
  int (*get_device_count)(int*) = nullptr;
  int (*host_register)(void*, std::size_t, unsigned) = nullptr;
  int (*host_unregister)(void*) = nullptr;
  const char* (*get_error_string)(int) = nullptr;
  int (*get_last_error)() = nullptr;  // and clears it
  CudaStatus status;
};

constexpr unsigned kHostRegisterPortable = 1;  // cudaHostRegisterPortable: pinned for every context

template <typename Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

Runtime open_runtime() {
  Runtime runtime;
  void* library = nullptr;
  // By soname, so that a runtime already in the process (libtorch's) is the one that is found.
  for (const char* name : {"libcudart.so.13", "libcudart.so.12", "libcudart.so"}) {
    library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr) break;
  }
  if (library == nullptr) {
    runtime.status.reason = "libcudart.so not found";
    return runtime;
  }
  if (!find(library, "cudaGetDeviceCount", runtime.get_device_count) ||
      !find(library, "cudaHostRegister", runtime.host_register) ||
      !find(library, "cudaHostUnregister", runtime.host_unregister) ||
      !find(library, "cudaGetErrorString", runtime.get_error_string) ||
      !find(library, "cudaGetLastError", runtime.get_last_error)) {
    runtime.status.reason = "libcudart.so lacks a function that is needed";
    return runtime;
  }
  int count = 0;
  if (const int error = runtime.get_device_count(&count); error != 0) {
    runtime.status.reason = std::string("cudaGetDeviceCount: ") + runtime.get_error_string(error);
    runtime.get_last_error();
  } else if (count == 0) {
    runtime.status.reason = "no CUDA device";
  } else {
    runtime.status.device_count = count;
  }
  return runtime;
}

const Runtime& runtime() {
  static const Runtime opened = open_runtime();
  return opened;
}

}  // namespace

CudaStatus cuda_status() { return runtime().status; }

Result<void> cuda_register(void* memory, std::size_t size_bytes) {
  const Runtime& cuda = runtime();
  if (cuda.status.device_count == 0) {
    return make_error(ErrorKind::kUnsupported, "cudaHostRegister", "", cuda.status.reason);
  }
  if (const int error = cuda.host_register(memory, size_bytes, kHostRegisterPortable); error != 0) {
    cuda.get_last_error();
    return make_error(ErrorKind::kNoMemory, "cudaHostRegister", "", cuda.get_error_string(error));
  }
  return {};
}

void cuda_unregister(void* memory) noexcept {
  const Runtime& cuda = runtime();
  // An error here means that the driver is going down with the process: there is nothing to undo.
  if (cuda.status.device_count > 0 && cuda.host_unregister(memory) != 0) cuda.get_last_error();
}

}  // namespace spillway::pinned_pool
