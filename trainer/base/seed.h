// derive_seed: the source of all randomness, a hash of the numbers that a random choice belongs to.
//
// Nothing depends on how often a generator was used before, so a resumed run, another number of
// ranks and a recomputation draw the same.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace spillway::trainer {

// Returns a 64-bit hash of its arguments: a chain of splitmix64's steps (Steele, Lea, Flood: "Fast
// splittable pseudorandom number generators", 2014).
constexpr std::uint64_t derive_seed(std::uint64_t seed, std::uint64_t a, std::uint64_t b = 0,
                                    std::uint64_t c = 0) noexcept {
  constexpr std::uint64_t kGoldenRatio = 0x9e3779b97f4a7c15u;  // splitmix64's increment
  const auto mix = [](std::uint64_t value) {
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
  };
  std::uint64_t hash = mix(seed + kGoldenRatio);
  for (const std::uint64_t word : {a, b, c}) hash = mix((hash ^ word) + kGoldenRatio);
  return hash;
}

}  // namespace spillway::trainer
