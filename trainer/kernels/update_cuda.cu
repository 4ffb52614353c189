// The kernel of update_cuda.h. Every operation is an intrinsic that rounds to nearest by
// itself, so that no compiler option (--fmad, --use_fast_math, -prec-div) can change a bit.
#include <cuda_runtime.h>
#include <spillway/aio/check.h>

#include <algorithm>
#include <optional>

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

// The arithmetic of the header; returns the new weight.
template <OptimizerKind kKind>
__device__ float update_element(const UpdateConstants& c, const DevicePlanes& planes,
                                std::uint64_t i, float p, float grad) {
  float g = __fmul_rn(grad, c.grad_scale);
  if constexpr (kKind == OptimizerKind::kAdam || kKind == OptimizerKind::kAdagrad) {
    g = __fmaf_rn(c.l2, p, g);
  }
  float& state0 = planes.states[0][i];
  if constexpr (kKind == OptimizerKind::kLion) {
    const float u = __fmaf_rn(c.beta1, state0, __fmul_rn(c.one_minus_beta1, g));
    const float sign = u > 0 ? 1.0f : u < 0 ? -1.0f : u;
    state0 = __fmaf_rn(c.beta2, state0, __fmul_rn(c.one_minus_beta2, g));
    return __fmaf_rn(-c.step_size, sign, __fmul_rn(p, c.decay));
  } else if constexpr (kKind == OptimizerKind::kAdagrad) {
    const float sum = __fmaf_rn(g, g, state0);
    state0 = sum;
    return __fmaf_rn(-c.step_size, __fdiv_rn(g, __fadd_rn(__fsqrt_rn(sum), c.epsilon)), p);
  } else {
    const float m = __fmaf_rn(c.beta1, state0, __fmul_rn(c.one_minus_beta1, g));
    const float v =
        __fmaf_rn(c.beta2, planes.states[1][i], __fmul_rn(c.one_minus_beta2, __fmul_rn(g, g)));
    state0 = m;
    planes.states[1][i] = v;
    const float root = __fmul_rn(__fsqrt_rn(v), c.inv_sqrt_bias2);
    const float quotient = __fdiv_rn(m, __fadd_rn(root, c.epsilon));
    const float decayed = kKind == OptimizerKind::kAdamW ? __fmul_rn(p, c.decay) : p;
    return __fmaf_rn(-c.step_size, quotient, decayed);
  }
}

template <OptimizerKind kKind, bool kSplit, bool kBf16Gradients>
__global__ void update(UpdateConstants c, DevicePlanes planes, std::uint64_t first,
                       std::uint64_t count) {
  const std::uint64_t stride = static_cast<std::uint64_t>(gridDim.x) * blockDim.x;
  for (std::uint64_t i = static_cast<std::uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < count; i += stride) {
    const float p = load_weight<kSplit>(planes, first + i);
    const float grad = load_gradient<kBf16Gradients>(planes, first + i);
    store_weight<kSplit>(planes, first + i, update_element<kKind>(c, planes, first + i, p, grad));
  }
}

using Kernel = void (*)(UpdateConstants, DevicePlanes, std::uint64_t, std::uint64_t);

template <OptimizerKind kKind>
Kernel kernel_of_formats(const OptimizerFormat& format) {
  const bool split = format.weights == Dtype::kBf16;
  if (format.gradients == Dtype::kBf16) {
    return split ? update<kKind, true, true> : update<kKind, false, true>;
  }
  return split ? update<kKind, true, false> : update<kKind, false, false>;
}

Kernel kernel_of(const OptimizerFormat& format) {
  switch (format.kind) {
    case OptimizerKind::kAdam:
      return kernel_of_formats<OptimizerKind::kAdam>(format);
    case OptimizerKind::kLion:
      return kernel_of_formats<OptimizerKind::kLion>(format);
    case OptimizerKind::kAdagrad:
      return kernel_of_formats<OptimizerKind::kAdagrad>(format);
    default:
      return kernel_of_formats<OptimizerKind::kAdamW>(format);
  }
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
