// Sum of squares in double, for the norm of gradients: the same bits on every SIMD target.
//
// Summed over fixed blocks of kSumBlock elements, so that the result depends on nothing but the
// values and their order. Inside a block kSumLanes lanes are summed (lane = index mod kSumLanes)
// and folded in lane order; so many that the sums wait for memory, not for one another.
// Nothing here blocks or allocates.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spillway::trainer {

inline constexpr std::size_t kSumBlock = 4096;
inline constexpr std::size_t kSumLanes = 32;

// Of fp32, or of bf16 values (their 16 bits).
double sum_of_squares(const float* values, std::size_t count) noexcept;
double sum_of_squares(const std::uint16_t* bf16_values, std::size_t count) noexcept;
// Plain loops, the definition.
double sum_of_squares_reference(const float* values, std::size_t count) noexcept;
double sum_of_squares_reference(const std::uint16_t* bf16_values, std::size_t count) noexcept;

}  // namespace spillway::trainer
