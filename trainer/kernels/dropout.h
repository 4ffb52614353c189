// Dropout with a mask that is a function of numbers, not of a running generator.
//
// The mask of a sample comes from Philox4x32-10 (philox.h) under a key that is a hash of seed,
// step, unit and site. Element i of sample s is dropped if word(i) < p * 2^32, where word(i) is
// word i % 64 / 16 of the counter {64-bit number 16 * (i / 64) + i % 16, 64-bit number s}. (So
// sixteen neighbours take the same word of sixteen counters, which suits vectors and warps.) A kept
// value is multiplied by 1 / (1 - p) in fp32; bf16 is rounded to nearest even. The reference, every
// SIMD target and the CUDA kernel give the same bits, for any split of a sample. No torch, nothing
// blocks or allocates; any thread may call.
#pragma once

#include <spillway/trainer/config_types.h>
#include "trainer/kernels/philox.h"

#include <cstdint>

namespace spillway::trainer {

// Elements of a sample that share counters: 16 counters of 4 words.
inline constexpr std::uint64_t kDropoutGroup = 64;
inline constexpr std::uint64_t kDropoutLanes = 16;

// Which dropout of a model, in which step of a run.
struct DropoutSite {
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
  std::uint32_t unit = 0;
  std::uint32_t site = 0;  // numbers the dropouts within a unit
};

struct DropoutMask {
  PhiloxKey key = {};
  // Of 2^32 words, so many drop their element: p * 2^32 to the nearest. p below 2^-33 drops none.
  std::uint64_t dropped_words = 0;
  float scale = 1;  // 1 / (1 - p); 0 for p = 1, which drops all

  // REQUIRES: 0 <= p <= 1.
  static DropoutMask create(const DropoutSite& site, double p) noexcept;
};

// The counter of element `element` of sample `sample`, and which of its words the element takes.
SPILLWAY_ON_DEVICE_TOO constexpr PhiloxBlock dropout_counter(std::uint64_t sample,
                                                             std::uint64_t element) noexcept {
  const std::uint64_t number =
      element / kDropoutGroup * kDropoutLanes + element % kDropoutGroup % kDropoutLanes;
  return {{static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(number >> 32),
           static_cast<std::uint32_t>(sample), static_cast<std::uint32_t>(sample >> 32)}};
}
SPILLWAY_ON_DEVICE_TOO constexpr unsigned dropout_word(std::uint64_t element) noexcept {
  return static_cast<unsigned>(element % kDropoutGroup / kDropoutLanes);
}

// Writes to `to` elements [first, first + count) of sample `sample`, whose first of the range lies
// at `from`: zero where dropped, scaled where kept. On the calling thread, with the best SIMD
// target of this CPU. `to` may be `from`.
void dropout(const DropoutMask& mask, std::uint64_t sample, std::uint64_t first,
             std::uint64_t count, const float* from, float* to) noexcept;
// The same for the 16 bits of bf16 values.
void dropout(const DropoutMask& mask, std::uint64_t sample, std::uint64_t first,
             std::uint64_t count, const std::uint16_t* from, std::uint16_t* to) noexcept;
// Plain loops, the definition.
void dropout_reference(const DropoutMask& mask, std::uint64_t sample, std::uint64_t first,
                       std::uint64_t count, const float* from, float* to) noexcept;
void dropout_reference(const DropoutMask& mask, std::uint64_t sample, std::uint64_t first,
                       std::uint64_t count, const std::uint16_t* from, std::uint16_t* to) noexcept;

// A tensor of samples [first_sample, first_sample + samples), each of `elements`, contiguous.
struct DropoutTensor {
  Dtype dtype = Dtype::kFp32;
  std::uint64_t first_sample = 0;
  std::uint64_t samples = 0;
  std::uint64_t elements = 0;
  const void* from = nullptr;
  void* to = nullptr;  // may be `from`
};
// Applies the mask to elements [begin, end) of the tensor, counted over all samples.
void dropout(const DropoutMask& mask, const DropoutTensor& tensor, std::uint64_t begin,
             std::uint64_t end) noexcept;

}  // namespace spillway::trainer
