// Whether the drives have room for a second generation of the states, which an update during
// backward needs in order to be taken back: asked before update_order "auto" takes it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace spillway::trainer {

// Free bytes that "auto" wants, of those that one generation takes: two generations, and as much
// again for a checkpoint and whatever else is written there.
inline constexpr std::uint64_t kRoomForGenerations = 4;

// What one rank keeps under a path.
struct StoredBytes {
  std::filesystem::path path;
  std::uint64_t bytes = 0;  // of one generation
};

// Empty when every filesystem has room for `local_ranks` that store as much; else why not, for the
// user. A path whose free space cannot be asked has none.
std::string lacking_room(std::span<const StoredBytes> stores, std::uint32_t local_ranks);

}  // namespace spillway::trainer
