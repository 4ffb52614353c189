// Philox4x32-10: a counter-based generator, whose numbers are a function of a key and a counter.
//
// Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), with the
// constants of its reference implementation, Random123. Nothing has a state: any thread or device
// computes any number on its own, in any order. The host and nvcc compile the same lines.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define SPILLWAY_ON_DEVICE_TOO __host__ __device__
#else
#define SPILLWAY_ON_DEVICE_TOO
#endif

namespace spillway::trainer {

inline constexpr std::uint32_t kPhiloxMultiplier0 = 0xd2511f53u;
inline constexpr std::uint32_t kPhiloxMultiplier1 = 0xcd9e8d57u;
inline constexpr std::uint32_t kPhiloxWeyl0 = 0x9e3779b9u;  // added to the key after each round
inline constexpr std::uint32_t kPhiloxWeyl1 = 0xbb67ae85u;
inline constexpr int kPhiloxRounds = 10;

// Four words: a counter, or the random numbers made of it.
struct PhiloxBlock {
  std::uint32_t words[4];
};
struct PhiloxKey {
  std::uint32_t words[2];
};

// Returns the random numbers of `counter` under `key`.
SPILLWAY_ON_DEVICE_TOO constexpr PhiloxBlock philox(PhiloxBlock counter, PhiloxKey key) noexcept {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const std::uint64_t product0 = std::uint64_t{kPhiloxMultiplier0} * counter.words[0];
    const std::uint64_t product1 = std::uint64_t{kPhiloxMultiplier1} * counter.words[2];
    counter = {{static_cast<std::uint32_t>(product1 >> 32) ^ counter.words[1] ^ key.words[0],
                static_cast<std::uint32_t>(product1),
                static_cast<std::uint32_t>(product0 >> 32) ^ counter.words[3] ^ key.words[1],
                static_cast<std::uint32_t>(product0)}};
    key = {{key.words[0] + kPhiloxWeyl0, key.words[1] + kPhiloxWeyl1}};
  }
  return counter;
}

}  // namespace spillway::trainer
