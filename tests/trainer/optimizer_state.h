// What one update works on, held in vectors, for the tests of the kernels.
#pragma once

#include <spillway/trainer/hi_lo.h>
#include <spillway/trainer/optimizer_update.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "random_values.h"

namespace spillway::trainer::testing {

// The planes of one tile in one format.
class TileState {
 public:
  TileState(const OptimizerFormat& format, std::size_t count, Values values, std::uint64_t seed)
      : format_(format), count_(count), bytes_{Bytes(count * 4), Bytes(count * 4)} {
    weight_.resize(count * (split() ? 2 : 4));
    lo_.resize(split() ? count : 0);
    gradient_.resize(count * (format.gradients == Dtype::kBf16 ? 2 : 4));
    std::mt19937_64 random(seed);
    for (std::size_t i = 0; i < count; ++i) {
      set_weight(i, draw(random, values, 0.1f));
      set_state(0, i, draw(random, values, 0.01f));
      set_state(1, i, std::abs(draw(random, values, 1e-4f)));
      if (format.kind == OptimizerKind::kAdagrad) set_state(0, i, std::abs(state(0, i)));
    }
    new_gradients(seed + 1, values);
  }

  std::size_t size() const { return count_; }
  bool split() const { return format_.weights == Dtype::kBf16; }
  UpdatePlanes planes(std::span<const DecayRun> runs = {}) {
    return {.format = format_,
            .weight = weight_.data(),
            .weight_lo = split() ? lo_.data() : nullptr,
            .states = {bytes_[0].data(), bytes_[1].data()},
            .gradient = gradient_.data(),
            .runs = runs};
  }

  void new_gradients(std::uint64_t seed, Values values = Values::kTraining) {
    std::mt19937_64 random(seed);
    for (std::size_t i = 0; i < count_; ++i) {
      const auto bits = std::bit_cast<std::uint32_t>(draw(random, values, 0.01f));
      if (format_.gradients == Dtype::kBf16) {
        // Cut off: both formats then can hold the same gradients.
        reinterpret_cast<std::uint16_t*>(gradient_.data())[i] =
            static_cast<std::uint16_t>(bits >> 16);
      } else {
        reinterpret_cast<std::uint32_t*>(gradient_.data())[i] = bits & 0xffff0000;
      }
    }
  }
  void clear_states() {
    for (auto& plane : bytes_) plane.assign(plane.size(), std::byte{0});
  }

  float gradient(std::size_t i) const {
    return at(gradient_, format_.gradients == Dtype::kBf16, i);
  }
  float weight(std::size_t i) const {
    if (!split()) return at(weight_, false, i);
    return hi_lo_join({reinterpret_cast<const std::uint16_t*>(weight_.data())[i], lo_[i]});
  }
  float state(int k, std::size_t i) const { return at(bytes_[k], bf16_states(), i); }

  // Empty when both hold the same bits, a NaN being as good as another; else where they differ.
  // `states`: how many are compared.
  std::string difference(const TileState& other) const {
    for (std::size_t i = 0; i < count_; ++i) {
      const std::string at = " of element " + std::to_string(i);
      if (!same(weight(i), other.weight(i))) return "weight" + at;
      for (std::uint32_t k = 0; k < state_count(format_.kind); ++k) {
        if (!same(state(k, i), other.state(k, i))) return "state " + std::to_string(k) + at;
      }
    }
    return count_ == other.count_ ? "" : "different sizes";
  }

 private:
  using Bytes = std::vector<std::byte>;

  static bool same(float left, float right) {
    return std::bit_cast<std::uint32_t>(left) == std::bit_cast<std::uint32_t>(right) ||
           (std::isnan(left) && std::isnan(right));
  }
  bool bf16_states() const { return format_.states == StateDtype::kBf16; }
  static float at(const Bytes& plane, bool bf16, std::size_t i) {
    if (!bf16) return reinterpret_cast<const float*>(plane.data())[i];
    const std::uint32_t half = reinterpret_cast<const std::uint16_t*>(plane.data())[i];
    return std::bit_cast<float>(half << 16);
  }
  void set_weight(std::size_t i, float value) {
    if (!split()) {
      reinterpret_cast<float*>(weight_.data())[i] = value;
      return;
    }
    const HiLo halves = hi_lo_split(value);
    reinterpret_cast<std::uint16_t*>(weight_.data())[i] = halves.hi;
    lo_[i] = halves.lo;
  }
  void set_state(int k, std::size_t i, float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if (bf16_states()) {
      reinterpret_cast<std::uint16_t*>(bytes_[k].data())[i] =
          static_cast<std::uint16_t>(bits >> 16);
    } else {
      reinterpret_cast<float*>(bytes_[k].data())[i] = value;
    }
  }

  OptimizerFormat format_;
  std::size_t count_;
  Bytes bytes_[2];
  Bytes weight_, gradient_;
  std::vector<std::uint16_t> lo_;
};

}  // namespace spillway::trainer::testing
