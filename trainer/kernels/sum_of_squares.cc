#include "trainer/kernels/sum_of_squares.h"

#include <algorithm>
#include <bit>

namespace spillway::trainer {
namespace {

double value_of(float value) { return value; }
double value_of(std::uint16_t bf16) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bf16) << 16);
}

template <typename T>
double sum(const T* values, std::size_t count) {
  double total = 0;
  for (std::size_t block = 0; block < count; block += kSumBlock) {
    double lanes[kSumLanes] = {};
    const std::size_t size = std::min(kSumBlock, count - block);
    for (std::size_t i = 0; i < size; ++i) {
      const double value = value_of(values[block + i]);
      lanes[i % kSumLanes] += value * value;
    }
    double block_sum = 0;
    for (const double lane : lanes) {
      block_sum += lane;
    }
    total += block_sum;
  }
  return total;
}

}  // namespace

double sum_of_squares_reference(const float* values, std::size_t count) noexcept {
  return sum(values, count);
}

double sum_of_squares_reference(const std::uint16_t* bf16_values, std::size_t count) noexcept {
  return sum(bf16_values, count);
}

}  // namespace spillway::trainer
