// The kernel of update_cuda.h. Every operation is an intrinsic that rounds to nearest by
// itself, so that no compiler option (--fmad, --use_fast_math, -prec-div) can change a bit.
#include <cuda_runtime.h>
#include <spillway/aio/check.h>

#include <algorithm>
#include <optional>

#include "trainer/kernels/optimizers/adagrad_device.h"
#include "trainer/kernels/optimizers/adam_device.h"
#include "trainer/kernels/optimizers/lion_device.h"
#include "trainer/kernels/optimizers/table.h"
#include "trainer/kernels/update_arithmetic.h"
#include "trainer/kernels/update_cuda.h"

namespace spillway::trainer {
namespace {

constexpr unsigned kThreads = 256;
// Enough blocks to fill any GPU of today several times over; each thread strides over the rest.
constexpr std::uint64_t kMaxBlocks = 4096;

// What a launch needs of UpdatePlanes.
struct DevicePlanes {
  void* weight;
  std::uint16_t* weight_lo;
  float* states[2];
  const void* gradient;
};

// hi_lo_join and hi_lo_split of hi_lo.h.
template <bool kSplit>
__device__ float load_weight(const DevicePlanes& planes, std::uint64_t i) {
  if constexpr (kSplit) {
    const unsigned lo = static_cast<unsigned>(static_cast<std::int16_t>(planes.weight_lo[i]));
    const unsigned hi = static_cast<const std::uint16_t*>(planes.weight)[i];
    return __uint_as_float((hi << 16) + lo);
  } else {
    return static_cast<const float*>(planes.weight)[i];
  }
}

template <bool kSplit>
__device__ void store_weight(const DevicePlanes& planes, std::uint64_t i, float master) {
  if constexpr (kSplit) {
    unsigned bits = __float_as_uint(master);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
      bits = 0x7fc00000u;
    }
    static_cast<std::uint16_t*>(planes.weight)[i] =
        static_cast<std::uint16_t>((bits + 0x8000u) >> 16);
    planes.weight_lo[i] = static_cast<std::uint16_t>(bits);
  } else {
    static_cast<float*>(planes.weight)[i] = master;
  }
}

template <bool kBf16>
__device__ float load_gradient(const DevicePlanes& planes, std::uint64_t i) {
  if constexpr (kBf16) {
    const unsigned half = static_cast<const std::uint16_t*>(planes.gradient)[i];
    return __uint_as_float(half << 16);
  } else {
    return static_cast<const float*>(planes.gradient)[i];
  }
}

template <typename Optimizer, bool kSplit, bool kBf16Gradients>
__global__ void update(UpdateConstants c, DevicePlanes planes, std::uint64_t first,
                       std::uint64_t count) {
  const std::uint64_t stride = static_cast<std::uint64_t>(gridDim.x) * blockDim.x;
  for (std::uint64_t i = first + static_cast<std::uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < first + count; i += stride) {
    float state[Optimizer::kStates];
    for (unsigned k = 0; k < Optimizer::kStates; ++k) state[k] = planes.states[k][i];
    const float g = __fmul_rn(load_gradient<kBf16Gradients>(planes, i), c.grad_scale);
    const float p = load_weight<kSplit>(planes, i);
    store_weight<kSplit>(planes, i, update_on_device(Optimizer(), c, p, g, state));
    for (unsigned k = 0; k < Optimizer::kStates; ++k) planes.states[k][i] = state[k];
  }
}

using Kernel = void (*)(UpdateConstants, DevicePlanes, std::uint64_t, std::uint64_t);

template <typename Optimizer>
Kernel kernel_of_formats(const OptimizerFormat& format) {
  const bool split = format.weights == Dtype::kBf16;
  if (format.gradients == Dtype::kBf16) {
    return split ? update<Optimizer, true, true> : update<Optimizer, false, true>;
  }
  return split ? update<Optimizer, true, false> : update<Optimizer, false, false>;
}

Kernel kernel_of(const OptimizerFormat& format) {
  return with_optimizer(format.kind,
                        [&]<typename Optimizer>() { return kernel_of_formats<Optimizer>(format); });
}

Result<void> launch(const UpdateConstants& constants, const UpdatePlanes& planes,
                    std::uint64_t first, std::uint64_t count, void* stream) {
  if (count == 0) {
    return {};
  }
  const DevicePlanes device{
      planes.weight,
      planes.weight_lo,
      {static_cast<float*>(planes.states[0]), static_cast<float*>(planes.states[1])},
      planes.gradient};
  const auto blocks =
      static_cast<unsigned>(std::min<std::uint64_t>((count + kThreads - 1) / kThreads, kMaxBlocks));
  const Kernel kernel = kernel_of(planes.format);
  kernel<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(constants, device, first,
                                                                     count);
  if (const cudaError_t status = cudaGetLastError(); status != cudaSuccess) {
    return make_error(ErrorKind::kIo, "launch the update on the GPU", "",
                      cudaGetErrorString(status));
  }
  return {};
}

}  // namespace

Result<void> update_range_cuda(const UpdateConstants& constants, const UpdatePlanes& planes,
                               std::uint64_t first, std::uint64_t count, void* stream) {
  SPILLWAY_CHECK(planes.format.states == StateDtype::kFp32, "the GPU's kernel has fp32 states");
  std::optional<Error> failure;
  for_each_piece(constants, planes, first, count,
                 [&](const UpdateConstants& constants_of_piece, const UpdatePlanes& of_piece,
                     std::uint64_t begin, std::uint64_t elements) {
                   if (failure) {
                     return;
                   }
                   const auto launched =
                       launch(constants_of_piece, of_piece, begin, elements, stream);
                   if (!launched) {
                     failure = launched.error();
                   }
                 });
  if (failure) {
    return tl::unexpected(*failure);
  }
  return {};
}

}  // namespace spillway::trainer
