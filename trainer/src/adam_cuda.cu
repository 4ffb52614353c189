// The kernel of adam_cuda.h. Every operation is an intrinsic that rounds to nearest by itself, so
// that no compiler option (--fmad, --use_fast_math, -prec-div) can change a bit.
#include <cuda_runtime.h>

#include <algorithm>

#include "spillway/trainer/adam_cuda.h"

namespace spillway::trainer {
namespace {

constexpr unsigned kThreads = 256;
// Enough blocks to fill any GPU of today several times over; each thread strides over the rest.
constexpr std::size_t kMaxBlocks = 4096;

// hi_lo_join and hi_lo_split of adam.h.
__device__ float load_param(const AdamPlanesBf16& planes, std::size_t i) {
  const unsigned lo = static_cast<unsigned>(static_cast<std::int16_t>(planes.param_lo[i]));
  return __uint_as_float((static_cast<unsigned>(planes.param_hi[i]) << 16) + lo);
}

__device__ void store_param(const AdamPlanesBf16& planes, std::size_t i, float master) {
  unsigned bits = __float_as_uint(master);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    bits = 0x7fc00000u;
  }
  planes.param_hi[i] = static_cast<std::uint16_t>((bits + 0x8000u) >> 16);
  planes.param_lo[i] = static_cast<std::uint16_t>(bits);
}

__device__ float load_param(const AdamPlanesFp32& planes, std::size_t i) { return planes.param[i]; }

__device__ void store_param(const AdamPlanesFp32& planes, std::size_t i, float master) {
  planes.param[i] = master;
}

template <typename Planes>
__global__ void update(AdamConstants c, Planes planes, std::size_t count) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += stride) {
    const float g = __fmul_rn(planes.grad[i], c.grad_scale);
    const float m = __fmaf_rn(c.beta1, planes.exp_avg[i], __fmul_rn(c.one_minus_beta1, g));
    const float v =
        __fmaf_rn(c.beta2, planes.exp_avg_sq[i], __fmul_rn(c.one_minus_beta2, __fmul_rn(g, g)));
    const float root = __fmul_rn(__fsqrt_rn(v), c.inv_sqrt_bias2);
    const float quotient = __fdiv_rn(m, __fadd_rn(root, c.epsilon));
    const float decayed = __fmul_rn(load_param(planes, i), c.decay);
    store_param(planes, i, __fmaf_rn(-c.step_size, quotient, decayed));
    planes.exp_avg[i] = m;
    planes.exp_avg_sq[i] = v;
  }
}

template <typename Planes>
Result<void> launch(const AdamConstants& constants, const Planes& planes, std::size_t count,
                    void* stream) {
  if (count == 0) {
    return {};
  }
  const auto blocks =
      static_cast<unsigned>(std::min((count + kThreads - 1) / kThreads, kMaxBlocks));
  update<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(constants, planes, count);
  if (const cudaError_t status = cudaGetLastError(); status != cudaSuccess) {
    return make_error(ErrorKind::kIo, "launch AdamW on the GPU", "", cudaGetErrorString(status));
  }
  return {};
}

}  // namespace

Result<void> adam_update_cuda(const AdamConstants& constants, const AdamPlanesBf16& planes,
                              std::size_t count, void* stream) {
  return launch(constants, planes, count, stream);
}

Result<void> adam_update_cuda(const AdamConstants& constants, const AdamPlanesFp32& planes,
                              std::size_t count, void* stream) {
  return launch(constants, planes, count, stream);
}

}  // namespace spillway::trainer
