#include "trainer/kernels/dropout.h"

#include <spillway/aio/check.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "trainer/base/seed.h"

namespace spillway::trainer {
namespace {

float value_of(float value) { return value; }
float value_of(std::uint16_t bf16) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bf16) << 16);
}

void store(float value, float* to) { *to = value; }
// Rounds to nearest even; a NaN stays one.
void store(float value, std::uint16_t* to) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  const std::uint32_t rounded = bits + 0x7fffu + (bits >> 16 & 1);
  *to = static_cast<std::uint16_t>(nan ? 0x7fc0u : rounded >> 16);
}

template <typename T>
void reference(const DropoutMask& mask, std::uint64_t sample, std::uint64_t first,
               std::uint64_t count, const T* from, T* to) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const PhiloxBlock random = philox(dropout_counter(sample, first + i), mask.key);
    const bool dropped = random.words[dropout_word(first + i)] < mask.dropped_words;
    store(dropped ? 0.0f : value_of(from[i]) * mask.scale, to + i);
  }
}

template <typename T>
void over_samples(const DropoutMask& mask, const DropoutTensor& tensor, std::uint64_t begin,
                  std::uint64_t end) {
  while (begin < end) {
    const std::uint64_t sample = begin / tensor.elements;
    const std::uint64_t first = begin % tensor.elements;
    const std::uint64_t count = std::min(end - begin, tensor.elements - first);
    dropout(mask, tensor.first_sample + sample, first, count,
            static_cast<const T*>(tensor.from) + begin, static_cast<T*>(tensor.to) + begin);
    begin += count;
  }
}

}  // namespace

DropoutMask DropoutMask::create(const DropoutSite& site, double p) noexcept {
  SPILLWAY_CHECK(p >= 0 && p <= 1, "a probability of dropout is between 0 and 1");
  constexpr std::uint64_t kPurpose = 0x64726f70;  // "drop": apart from what else is derived
  const std::uint64_t key =
      derive_seed(site.seed, site.step, std::uint64_t{site.unit} << 32 | site.site, kPurpose);
  DropoutMask mask;
  mask.key = {{static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)}};
  mask.dropped_words = static_cast<std::uint64_t>(std::llround(std::ldexp(p, 32)));
  mask.scale = p < 1 ? static_cast<float>(1 / (1 - p)) : 0.0f;
  return mask;
}

void dropout_reference(const DropoutMask& mask, std::uint64_t sample, std::uint64_t first,
                       std::uint64_t count, const float* from, float* to) noexcept {
  reference(mask, sample, first, count, from, to);
}

void dropout_reference(const DropoutMask& mask, std::uint64_t sample, std::uint64_t first,
                       std::uint64_t count, const std::uint16_t* from, std::uint16_t* to) noexcept {
  reference(mask, sample, first, count, from, to);
}

void dropout(const DropoutMask& mask, const DropoutTensor& tensor, std::uint64_t begin,
             std::uint64_t end) noexcept {
  if (tensor.dtype == Dtype::kBf16) {
    over_samples<std::uint16_t>(mask, tensor, begin, end);
  } else {
    over_samples<float>(mask, tensor, begin, end);
  }
}

}  // namespace spillway::trainer
