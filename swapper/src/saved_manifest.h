// SavedManifest: the file that makes a directory one of saved tiles (docs/format.md). Its numbers
// are little-endian on every machine; an XXH3 of all that is before it ends it.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/swapper/layout.h>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace spillway::swapper {

struct SavedManifest {
  struct Tile {
    TileId tile = 0;
    std::uint32_t file = 0;  // number of the segment
    std::uint64_t offset = 0;
    std::uint32_t generation = 0;
    std::vector<std::vector<std::uint64_t>> sums;  // of each plane's blocks
  };
  std::vector<Plane> planes;
  std::vector<std::uint64_t> tile_elements;  // of every tile of the store, saved or not
  std::vector<std::uint64_t> file_bytes;     // sizes of the segments
  std::vector<Tile> tiles;                   // the saved ones, ascending
};

// Bytes at the start that tell what the file is, how long, and that `check_head` needs.
inline constexpr std::size_t kSavedHeadBytes = 24;

// Returns the name of segment `file`: "segment-00007".
std::string saved_segment_name(std::uint32_t file);
// REQUIRES: what decode would accept.
std::string encode(const SavedManifest& manifest);
// Returns the manifest's size in bytes. kInvalid if the file is another one; kUnsupported: another
// version or byte order; kCorrupt: cut. `path`, here and below, is for the error.
Result<std::uint64_t> check_head(std::span<const std::byte> head, const std::string& path);
// kCorrupt if a byte differs from what was encoded, or if a number makes no sense; kUnsupported:
// checksums of another algorithm. Allocates no more than some times the size of `bytes`.
Result<SavedManifest> decode_saved_manifest(std::span<const std::byte> bytes,
                                            const std::string& path);

}  // namespace spillway::swapper
