// Values and number formats for the tests of the kernels.
#pragma once

#include <spillway/trainer/config_types.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace spillway::trainer::testing {

enum class Values {
  kTraining,  // the sizes that occur in training
  kAnything,  // any bit pattern but NaN, and many zeros, denormals and infinities
};

inline float draw(std::mt19937_64& random, Values values, float scale) {
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

// All combinations.
inline std::vector<OptimizerFormat> all_formats() {
  std::vector<OptimizerFormat> formats;
  for (const auto kind : {OptimizerKind::kAdamW, OptimizerKind::kAdam, OptimizerKind::kLion,
                          OptimizerKind::kAdagrad}) {
    for (const Dtype weights : {Dtype::kFp32, Dtype::kBf16}) {
      for (const StateDtype states : {StateDtype::kFp32, StateDtype::kBf16, StateDtype::kInt8}) {
        for (const Dtype gradients : {Dtype::kFp32, Dtype::kBf16}) {
          formats.push_back({kind, weights, states, gradients});
        }
      }
    }
  }
  return formats;
}

inline std::string name_of(const OptimizerFormat& format) {
  const char* kinds[] = {"AdamW", "Adam", "Lion", "Adagrad"};
  const char* states[] = {"Fp32", "Bf16", "Int8"};
  const char* dtypes[] = {"Fp32", "Bf16"};
  return std::string(kinds[static_cast<int>(format.kind)]) + "Weights" +
         dtypes[static_cast<int>(format.weights)] + "States" +
         states[static_cast<int>(format.states)] + "Gradients" +
         dtypes[static_cast<int>(format.gradients)];
}

}  // namespace spillway::trainer::testing
