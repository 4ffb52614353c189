#include "fake_cuda_runtime.h"

namespace {
spillway::pinned_pool::FakeCuda fake;
int last_error = 0;

int outcome(int error) {
  if (error != 0) last_error = error;
  return error;
}
}  // namespace

extern "C" {

spillway::pinned_pool::FakeCuda* fake_cuda() { return &fake; }

int cudaGetDeviceCount(int* count) {
  *count = fake.count_error == 0 ? 1 : 0;
  return outcome(fake.count_error);
}
int cudaHostRegister(void*, std::size_t, unsigned) { return outcome(fake.register_error); }
int cudaHostUnregister(void*) { return outcome(fake.unregister_error); }
const char* cudaGetErrorString(int error) { return error == 2 ? "out of memory" : "other"; }
int cudaGetLastError() {
  const int error = last_error;
  last_error = 0;
  return error;
}
}
