#include "spillway/trainer/adam.h"

#include <spillway/aio/check.h>
#include <algorithm>
#include <bit>
#include <cmath>

namespace spillway::trainer {
namespace {

constexpr std::uint32_t kExponentMask = 0x7f800000;
constexpr std::uint32_t kMagnitudeMask = 0x7fffffff;
constexpr std::uint16_t kCanonicalNanHi = 0x7fc0;

// Every line rounds once, as the header says; -ffp-contract=off keeps the compiler from fusing
// what is not written as fma.
inline float update_element(const AdamConstants& c, float param, float grad, float& exp_avg,
                            float& exp_avg_sq) {
  const float g = grad * c.grad_scale;
  const float m = std::fma(c.beta1, exp_avg, c.one_minus_beta1 * g);
  const float v = std::fma(c.beta2, exp_avg_sq, c.one_minus_beta2 * (g * g));
  const float root = std::sqrt(v) * c.inv_sqrt_bias2;
  const float denominator = root + c.epsilon;
  exp_avg = m;
  exp_avg_sq = v;
  return std::fma(-c.step_size, m / denominator, param * c.decay);
}

}  // namespace

AdamConstants AdamConstants::at_step(const AdamOptions& options, std::uint64_t step,
                                     float grad_scale) {
  SPILLWAY_CHECK(step >= 1, "AdamW counts its steps from 1");
  const double bias1 = 1.0 - std::pow(options.beta1, static_cast<double>(step));
  const double bias2 = 1.0 - std::pow(options.beta2, static_cast<double>(step));
  const auto rounded = [](double value) { return static_cast<float>(value); };
  return AdamConstants{
      .beta1 = rounded(options.beta1),
      .one_minus_beta1 = rounded(1.0 - options.beta1),
      .beta2 = rounded(options.beta2),
      .one_minus_beta2 = rounded(1.0 - options.beta2),
      .inv_sqrt_bias2 = rounded(1.0 / std::sqrt(bias2)),
      .epsilon = rounded(options.epsilon),
      .step_size = rounded(options.learning_rate / bias1),
      .decay = rounded(1.0 - options.learning_rate * options.weight_decay),
      .grad_scale = grad_scale,
  };
}

HiLo hi_lo_split(float master) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(master);
  if ((bits & kMagnitudeMask) > kExponentMask) {
    return {kCanonicalNanHi, 0};
  }
  return {static_cast<std::uint16_t>((bits + 0x8000u) >> 16), static_cast<std::uint16_t>(bits)};
}

float hi_lo_join(HiLo halves) noexcept {
  // 1.00390625 = 0x3f808000 is a tie: hi = 0x3f81 (rounded up), lo = 0x8000 = -32768, and
  // 0x3f810000 - 0x8000 = 0x3f808000.
  const auto lo = static_cast<std::uint32_t>(static_cast<std::int16_t>(halves.lo));
  return std::bit_cast<float>((static_cast<std::uint32_t>(halves.hi) << 16) + lo);
}

void adam_reference(const AdamConstants& constants, const AdamPlanesBf16& planes,
                    std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    const float param = hi_lo_join({planes.param_hi[i], planes.param_lo[i]});
    const HiLo updated = hi_lo_split(
        update_element(constants, param, planes.grad[i], planes.exp_avg[i], planes.exp_avg_sq[i]));
    planes.param_hi[i] = updated.hi;
    planes.param_lo[i] = updated.lo;
  }
}

void adam_reference(const AdamConstants& constants, const AdamPlanesFp32& planes,
                    std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    planes.param[i] = update_element(constants, planes.param[i], planes.grad[i], planes.exp_avg[i],
                                     planes.exp_avg_sq[i]);
  }
}

double sum_of_squares_reference(const float* values, std::size_t count) noexcept {
  double total = 0;
  for (std::size_t block = 0; block < count; block += kSumBlock) {
    double lanes[kSumLanes] = {};
    const std::size_t size = std::min(kSumBlock, count - block);
    for (std::size_t i = 0; i < size; ++i) {
      const double value = values[block + i];
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

}  // namespace spillway::trainer
