// Returns the seed of a random test: SPILLWAY_TEST_SEED, or a fixed one. Prints it, so that a
// failure can be reproduced.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>

namespace spillway {

inline std::uint64_t test_seed(std::uint64_t otherwise) {
  const char* text = std::getenv("SPILLWAY_TEST_SEED");
  std::uint64_t seed = text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
  std::cout << "seed: " << seed << " (SPILLWAY_TEST_SEED sets it)\n";
  return seed;
}

// Returns how long a soak lasts: SPILLWAY_SOAK_MINUTES. Zero without it: one short round.
inline std::chrono::seconds test_minutes() {
  const char* text = std::getenv("SPILLWAY_SOAK_MINUTES");
  return std::chrono::seconds(text != nullptr ? static_cast<int>(std::atof(text) * 60) : 0);
}

}  // namespace spillway
