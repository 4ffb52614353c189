#include "pattern.h"

#include <algorithm>
#include <cstring>

namespace spillway::aio_bench {
namespace {

// splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

std::uint64_t stamp_of(std::uint64_t page, std::uint64_t pass) { return mix(page ^ mix(pass)); }

bool stamp_is_right(const std::byte* page, std::uint64_t number, std::uint64_t pass) {
  std::uint64_t word = 0;
  std::memcpy(&word, page, sizeof word);
  return word == stamp_of(number, pass);
}

}  // namespace

Pattern::Pattern() : body_(kPeriodBytes / sizeof(std::uint64_t)) {
  for (std::size_t i = 0; i < body_.size(); ++i) body_[i] = mix(i);
}

void Pattern::fill(std::span<std::byte> data) const {
  for (std::size_t at = 0; at < data.size(); at += kPeriodBytes) {
    std::memcpy(data.data() + at, body_.data(), std::min(kPeriodBytes, data.size() - at));
  }
}

void Pattern::stamp(std::span<std::byte> data, std::uint64_t offset, std::uint64_t pass) {
  for (std::size_t at = 0; at < data.size(); at += kPageBytes) {
    const std::uint64_t word = stamp_of((offset + at) / kPageBytes, pass);
    std::memcpy(data.data() + at, &word, sizeof word);
  }
}

std::optional<std::uint64_t> Pattern::wrong_stamp(std::span<const std::byte> data,
                                                  std::uint64_t offset, Passes passes) {
  for (std::size_t i = 0; i < passes.size(); ++i) {
    const std::uint64_t at = offset + i * kPageBytes;
    if (!stamp_is_right(data.data() + i * kPageBytes, at / kPageBytes, passes[i])) return at;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> Pattern::wrong_page(std::span<const std::byte> data,
                                                 std::uint64_t offset, Passes passes) const {
  constexpr std::size_t kStampBytes = sizeof(std::uint64_t);
  const auto* body = reinterpret_cast<const std::byte*>(body_.data());
  for (std::size_t i = 0; i < passes.size(); ++i) {
    const std::uint64_t at = offset + i * kPageBytes;
    const std::byte* page = data.data() + i * kPageBytes;
    const std::byte* wanted = body + at % kPeriodBytes;
    if (!stamp_is_right(page, at / kPageBytes, passes[i]) ||
        std::memcmp(page + kStampBytes, wanted + kStampBytes, kPageBytes - kStampBytes) != 0) {
      return at;
    }
  }
  return std::nullopt;
}

}  // namespace spillway::aio_bench
