// The kernel of dropout_cuda.h: a thread a counter, so that the threads of half a warp read and
// write sixteen neighbours. The multiplication is an intrinsic that rounds to nearest by itself.
#include <cuda_runtime.h>

#include <algorithm>

#include "trainer/kernels/dropout_cuda.h"

namespace spillway::trainer {
namespace {

constexpr unsigned kThreads = 256;
// Enough blocks to fill any GPU of today several times over; each thread strides over the rest.
constexpr std::uint64_t kMaxBlocks = 4096;

__device__ float load(const float* from) { return *from; }
__device__ float load(const std::uint16_t* from) {
  return __uint_as_float(static_cast<unsigned>(*from) << 16);
}

__device__ void store(float value, float* to) { *to = value; }
__device__ void store(float value, std::uint16_t* to) {
  const unsigned bits = __float_as_uint(value);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  const unsigned rounded = bits + 0x7fffu + (bits >> 16 & 1u);
  *to = static_cast<std::uint16_t>(nan ? 0x7fc0u : rounded >> 16);
}

// `counters`: of one sample, a multiple of kDropoutLanes.
template <typename T>
__global__ void drop(DropoutMask mask, DropoutTensor tensor, std::uint64_t counters) {
  const std::uint64_t stride = static_cast<std::uint64_t>(gridDim.x) * blockDim.x;
  const std::uint64_t all = counters * tensor.samples;
  for (std::uint64_t n = static_cast<std::uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x; n < all;
       n += stride) {
    const std::uint64_t sample = n / counters, number = n % counters;
    const std::uint64_t first =
        number / kDropoutLanes * kDropoutGroup + number % kDropoutLanes;  // of its four elements
    const PhiloxBlock random =
        philox(dropout_counter(tensor.first_sample + sample, first), mask.key);
    const std::uint64_t start = sample * tensor.elements;
    for (unsigned word = 0; word < 4; ++word) {
      const std::uint64_t element = first + word * kDropoutLanes;
      if (element >= tensor.elements) break;
      const bool dropped = random.words[word] < mask.dropped_words;
      const T* from = static_cast<const T*>(tensor.from) + start + element;
      T* to = static_cast<T*>(tensor.to) + start + element;
      store(dropped ? 0.0f : __fmul_rn(load(from), mask.scale), to);
    }
  }
}

}  // namespace

Result<void> dropout_cuda(const DropoutMask& mask, const DropoutTensor& tensor, void* stream) {
  const std::uint64_t groups = (tensor.elements + kDropoutGroup - 1) / kDropoutGroup;
  const std::uint64_t counters = groups * kDropoutLanes;
  if (counters * tensor.samples == 0) return {};
  const auto blocks = static_cast<unsigned>(
      std::min<std::uint64_t>((counters * tensor.samples + kThreads - 1) / kThreads, kMaxBlocks));
  const auto kernel = tensor.dtype == Dtype::kBf16 ? drop<std::uint16_t> : drop<float>;
  kernel<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(mask, tensor, counters);
  if (const cudaError_t status = cudaGetLastError(); status != cudaSuccess) {
    return make_error(ErrorKind::kIo, "launch dropout on the GPU", "", cudaGetErrorString(status));
  }
  return {};
}

}  // namespace spillway::trainer
