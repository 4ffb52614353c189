// A CUDA runtime with one device and no hardware: a shared library with the name of the real one.
#pragma once

#include <cstddef>

namespace spillway::pinned_pool {

// The errors that its functions return; 0 = success.
struct FakeCuda {
  int count_error = 0;
  int register_error = 0;
  int unregister_error = 0;
};

}  // namespace spillway::pinned_pool

extern "C" {
spillway::pinned_pool::FakeCuda* fake_cuda();
// Returns the error that came last, and clears it.
int cudaGetLastError();
}
