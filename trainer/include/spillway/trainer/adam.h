// AdamW over one tile: the fused CPU kernel, its plain reference, and the arithmetic they share.
//
// Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2, with the
// arithmetic written out op by op (AdamArithmetic), so that the reference, every SIMD target and
// the CUDA kernel give the same bits for any tile size and number of threads:
//
//   g = grad * grad_scale
//   m = fma(beta1, m, (1 - beta1) * g)
//   v = fma(beta2, v, (1 - beta2) * (g * g))
//   d = sqrt(v) * inv_sqrt_bias2 + eps
//   p = fma(-step_size, m / d, p * decay)        one rounding per operation named
//
// Denormals count in full. Only the sign and payload of a NaN are not promised.
//
// For bf16 training the fp32 master weight is stored as two 16-bit planes, hi and lo: hi is the
// bf16 weight, the master rounded half up, lo the low 16 bits; together they are the master
// exactly. Nothing here blocks or allocates.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spillway::trainer {

struct AdamOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
};

// The constants of one step, rounded to float once. Bias corrections come from the step number in
// double: 1 - beta^step, never from a running product.
struct AdamConstants {
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float inv_sqrt_bias2;  // 1 / sqrt(1 - beta2^step)
  float epsilon;
  float step_size;   // learning_rate / (1 - beta1^step)
  float decay;       // 1 - learning_rate * weight_decay
  float grad_scale;  // unscaling and clipping in one factor

  // step counts from 1.
  static AdamConstants at_step(const AdamOptions& options, std::uint64_t step, float grad_scale);
};

// The master weight as two halves. Round half up in magnitude: hi = (bits + 0x8000) >> 16, lo = the
// low 16 bits; bits = (hi << 16) + sign_extend(lo) mod 2^32. The two formulas are inverse for every
// bit pattern, so infinities, zeros and denormals come back exactly, and so does the largest finite
// float, whose hi is infinity (its nearest bf16). Only NaN is an exception: rounding up would turn
// 0x7fffffff, the NaN CUDA makes, into a hi of -0 that the model takes for a weight. Every NaN is
// therefore split as 0x7fc0, 0: it stays a NaN in hi and in the master, its sign and payload drop.
struct HiLo {
  std::uint16_t hi;
  std::uint16_t lo;
};
HiLo hi_lo_split(float master) noexcept;
float hi_lo_join(HiLo halves) noexcept;

// Pointers to the planes of `count` consecutive elements; every pointer 2- resp. 4-byte aligned
// at least. grad is read, the rest read and written.
struct AdamPlanesBf16 {
  std::uint16_t* param_hi;
  std::uint16_t* param_lo;
  float* exp_avg;
  float* exp_avg_sq;
  const float* grad;
};
struct AdamPlanesFp32 {
  float* param;
  float* exp_avg;
  float* exp_avg_sq;
  const float* grad;
};

// Plain loops, the definition. One thread.
void adam_reference(const AdamConstants& constants, const AdamPlanesBf16& planes,
                    std::size_t count) noexcept;
void adam_reference(const AdamConstants& constants, const AdamPlanesFp32& planes,
                    std::size_t count) noexcept;

// Highway, the best SIMD target of this CPU, on the calling thread. Same bits as the reference.
void adam_update(const AdamConstants& constants, const AdamPlanesBf16& planes,
                 std::size_t count) noexcept;
void adam_update(const AdamConstants& constants, const AdamPlanesFp32& planes,
                 std::size_t count) noexcept;

// Name of the SIMD target adam_update uses here: "AVX3" (AVX-512), "AVX2", "NEON", or "SCALAR" for
// the reference, where the CPU has no fused multiply-add.
const char* adam_simd_target() noexcept;

// Sum of squares of `count` floats in double, over fixed blocks of kSumBlock elements, so that the
// result depends on nothing but the values and their order. SIMD and reference agree bit by bit:
// inside a block kSumLanes lanes are summed (lane = index mod kSumLanes) and folded in lane order;
// so many that the sums wait for memory, not for one another.
inline constexpr std::size_t kSumBlock = 4096;
inline constexpr std::size_t kSumLanes = 32;
double sum_of_squares(const float* values, std::size_t count) noexcept;
double sum_of_squares_reference(const float* values, std::size_t count) noexcept;

}  // namespace spillway::trainer
