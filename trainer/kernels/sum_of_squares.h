// Sum of squares in double, for the norm of gradients: the same bits on every SIMD target.
//
// It sums fixed blocks of kSumBlock elements, so the result depends only on the values and their
// order. A block is summed in kSumLanes lanes (lane = index mod kSumLanes), which are then added in
// order; with so many lanes memory is the limit, not the latency of an addition. Does not block or
// allocate. Threads: any.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spillway::trainer {

inline constexpr std::size_t kSumBlock = 4096;
inline constexpr std::size_t kSumLanes = 32;

// Sums fp32 values, or bf16 values (their 16 bits).
double sum_of_squares(const float* values, std::size_t count) noexcept;
double sum_of_squares(const std::uint16_t* bf16_values, std::size_t count) noexcept;
// The same by plain loops: the definition.
double sum_of_squares_reference(const float* values, std::size_t count) noexcept;
double sum_of_squares_reference(const std::uint16_t* bf16_values, std::size_t count) noexcept;

}  // namespace spillway::trainer
