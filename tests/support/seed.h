// The seed of a random test: SPILLWAY_TEST_SEED, else a fixed one. Always printed, so that a
// failure can be had again.
#pragma once

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

}  // namespace spillway
