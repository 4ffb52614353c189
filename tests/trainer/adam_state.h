// What one AdamW update works on, held in vectors, for the tests of the kernels.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "spillway/trainer/adam.h"

namespace spillway::trainer::testing {

enum class Values {
  kTraining,  // the sizes that occur in training
  kAnything,  // any bit pattern but NaN, and many zeros, denormals and infinities
};

struct AdamState {
  std::vector<float> param, exp_avg, exp_avg_sq, grad;
  std::vector<std::uint16_t> hi, lo;  // param, split

  AdamState(std::size_t count, Values values, std::uint64_t seed)
      : param(count), exp_avg(count), exp_avg_sq(count), grad(count), hi(count), lo(count) {
    std::mt19937_64 random(seed);
    for (std::size_t i = 0; i < count; ++i) {
      param[i] = draw(random, values, 0.1f);
      exp_avg[i] = draw(random, values, 0.01f);
      exp_avg_sq[i] = std::abs(draw(random, values, 1e-4f));
      grad[i] = draw(random, values, 0.01f);
      const HiLo halves = hi_lo_split(param[i]);
      hi[i] = halves.hi;
      lo[i] = halves.lo;
    }
  }

  void new_gradients(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    for (float& value : grad) {
      value = draw(random, Values::kTraining, 0.01f);
    }
  }

  AdamPlanesFp32 fp32(std::size_t first = 0) {
    return {param.data() + first, exp_avg.data() + first, exp_avg_sq.data() + first,
            grad.data() + first};
  }
  AdamPlanesBf16 bf16(std::size_t first = 0) {
    return {hi.data() + first, lo.data() + first, exp_avg.data() + first, exp_avg_sq.data() + first,
            grad.data() + first};
  }

 private:
  static float draw(std::mt19937_64& random, Values values, float scale) {
    if (values == Values::kTraining) {
      return std::normal_distribution<float>(0, scale)(random);
    }
    const auto bits = static_cast<std::uint32_t>(random());
    const float any = std::bit_cast<float>(bits);
    switch (random() % 8) {
      case 0:
        return std::copysign(0.0f, any);
      case 1:
        return std::bit_cast<float>(bits & 0x807fffff);  // denormal
      case 2:
        return std::copysign(std::numeric_limits<float>::infinity(), any);
      case 3:
        return std::copysign(std::numeric_limits<float>::max(), any);
      default:
        return std::isnan(any) ? 1.0f : any;
    }
  }
};

// Empty when both hold the same bits, a NaN being as good as another; else where they differ.
inline std::string difference(const std::vector<float>& left, const std::vector<float>& right) {
  for (std::size_t i = 0; i < left.size(); ++i) {
    const bool same =
        std::bit_cast<std::uint32_t>(left[i]) == std::bit_cast<std::uint32_t>(right[i]) ||
        (std::isnan(left[i]) && std::isnan(right[i]));
    if (!same) {
      return "element " + std::to_string(i) + ": " + std::to_string(left[i]) +
             " != " + std::to_string(right[i]);
    }
  }
  return left.size() == right.size() ? "" : "different sizes";
}

inline std::string difference(const AdamState& left, const AdamState& right) {
  for (const auto& [name, plane] : {std::pair{"param ", &AdamState::param},
                                    {"exp_avg ", &AdamState::exp_avg},
                                    {"exp_avg_sq ", &AdamState::exp_avg_sq}}) {
    const std::string found = difference(left.*plane, right.*plane);
    if (!found.empty()) {
      return name + found;
    }
  }
  if (left.hi != right.hi || left.lo != right.lo) {
    return "planes hi, lo";
  }
  return "";
}

}  // namespace spillway::trainer::testing
