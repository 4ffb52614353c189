// Holds the operands of one update in vectors, for the tests of the kernels.
#pragma once

#include "trainer/kernels/block_quantisation.h"
#include "trainer/kernels/hi_lo.h"
#include "trainer/kernels/update.h"

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "tests/trainer/kernels/random_values.h"

namespace spillway::trainer::testing {

// The planes of one tile in one format.
class TileState {
 public:
  TileState(const OptimizerFormat& format, std::size_t count, Values values, std::uint64_t seed)
      : format_(format),
        count_(count),
        bytes_{Bytes(count * 4), Bytes(count * 4)},
        absmax_(2 * blocks()) {
    weight_.resize(count * (split() ? 2 : 4));
    lo_.resize(split() ? count : 0);
    gradient_.resize(count * (format.gradients == Dtype::kBf16 ? 2 : 4));
    std::mt19937_64 random(seed);
    for (std::size_t i = 0; i < count; ++i) set_weight(i, draw(random, values, 0.1f));
    for (int k : {0, 1}) {
      const bool is_signed = book(k) == CodeBook::kSigned;
      std::vector<float> state(count);
      for (float& value : state) {
        value = draw(random, values, is_signed ? 0.01f : 1e-4f);
        if (!is_signed) value = std::abs(value);
      }
      set_state(k, state);
    }
    new_gradients(seed + 1, values);
  }

  std::size_t size() const { return count_; }
  bool split() const { return format_.weights == Dtype::kBf16; }
  UpdatePlanes planes(std::span<const UpdatePiece> pieces = {}) {
    return {.format = format_,
            .weight = weight_.data(),
            .weight_lo = split() ? lo_.data() : nullptr,
            .states = {bytes_[0].data(), bytes_[1].data()},
            .absmax = {absmax_.data(), absmax_.data() + blocks()},
            .gradient = gradient_.data(),
            .pieces = pieces};
  }

  void new_gradients(std::uint64_t seed, Values values = Values::kTraining) {
    std::mt19937_64 random(seed);
    for (std::size_t i = 0; i < count_; ++i) {
      // Exact in bf16, so that both formats can hold the same gradients.
      const auto bits = std::bit_cast<std::uint32_t>(draw(random, values, 0.01f)) & 0xffff0000;
      put(gradient_, format_.gradients == Dtype::kBf16, i, std::bit_cast<float>(bits));
    }
  }
  void set_gradient(std::size_t i, float value) {
    put(gradient_, format_.gradients == Dtype::kBf16, i, value);
  }
  void clear_states() {
    for (auto& plane : bytes_) std::ranges::fill(plane, std::byte{0});
    std::ranges::fill(absmax_, 0.0f);
  }

  float gradient(std::size_t i) const {
    return at(gradient_, format_.gradients == Dtype::kBf16, i);
  }
  float weight(std::size_t i) const {
    if (!split()) return at(weight_, false, i);
    return hi_lo_join({as<const std::uint16_t>(weight_)[i], lo_[i]});
  }
  float state(int k, std::size_t i) const {
    if (format_.states != StateDtype::kInt8) return at(bytes_[k], bf16_states(), i);
    const auto code = static_cast<std::uint8_t>(bytes_[k][i]);
    return code_value(book(k), code) * absmax_[k * blocks() + i / kQuantisedBlock];
  }

  // Returns where the bits differ; empty if nowhere. All NaNs are equal.
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

  template <typename T, typename Plane>
  static T* as(Plane& plane) {
    return reinterpret_cast<T*>(plane.data());
  }
  static bool same(float left, float right) {
    return std::bit_cast<std::uint32_t>(left) == std::bit_cast<std::uint32_t>(right) ||
           (std::isnan(left) && std::isnan(right));
  }
  std::size_t blocks() const { return (count_ + kQuantisedBlock - 1) / kQuantisedBlock; }
  CodeBook book(int k) const {
    const bool of_squares = k == 1 || format_.kind == OptimizerKind::kAdagrad;
    return of_squares ? CodeBook::kUnsigned : CodeBook::kSigned;
  }
  bool bf16_states() const { return format_.states == StateDtype::kBf16; }
  static float at(const Bytes& plane, bool bf16, std::size_t i) {
    return bf16 ? hi_lo_join({as<const std::uint16_t>(plane)[i], 0}) : as<const float>(plane)[i];
  }
  void set_weight(std::size_t i, float value) {
    if (!split()) {
      as<float>(weight_)[i] = value;
      return;
    }
    const HiLo halves = hi_lo_split(value);
    as<std::uint16_t>(weight_)[i] = halves.hi;
    lo_[i] = halves.lo;
  }
  void set_state(int k, const std::vector<float>& values) {
    if (format_.states == StateDtype::kInt8) {
      encode_blocks_reference(book(k), values.data(), count_, as<std::uint8_t>(bytes_[k]),
                              absmax_.data() + k * blocks());
      return;
    }
    for (std::size_t i = 0; i < count_; ++i) put(bytes_[k], bf16_states(), i, values[i]);
  }
  // Truncates instead of rounding.
  static void put(Bytes& plane, bool bf16, std::size_t i, float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if (bf16) {
      as<std::uint16_t>(plane)[i] = static_cast<std::uint16_t>(bits >> 16);
    } else {
      as<std::uint32_t>(plane)[i] = bits;
    }
  }

  OptimizerFormat format_;
  std::size_t count_;
  Bytes bytes_[2];
  std::vector<float> absmax_;
  Bytes weight_, gradient_;
  std::vector<std::uint16_t> lo_;
};

}  // namespace spillway::trainer::testing
