// The check of update_order "auto" that the drives have room for a second generation of the states.
// An update during backward needs it, to be rolled back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace spillway::trainer {

// Free space that "auto" requires, in sizes of one generation: two generations, and as much again
// for a checkpoint and other files.
inline constexpr std::uint64_t kRoomForGenerations = 4;

// The bytes that one rank stores under a path.
struct StoredBytes {
  std::filesystem::path path;
  std::uint64_t bytes = 0;  // of one generation
};

// Returns an empty text if every filesystem has room for `local_ranks` such ranks, else the reason,
// for the user. A path with unknown free space has none.
std::string lacking_room(std::span<const StoredBytes> stores, std::uint32_t local_ranks);

}  // namespace spillway::trainer
