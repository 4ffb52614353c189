// The checksum of one block of a stored tile: what a TileStore keeps in RAM, and what a reader of a
// sealed segment compares its bytes with.
//
// The value is of the bytes and of who they are: which block of which plane of which tile, and the
// generation of the write. So the right bytes in the wrong place differ as flipped bits do.
#pragma once

#include <spillway/aio/export.h>
#include <spillway/swapper/block_hash.h>
#include <spillway/swapper/layout.h>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace spillway::swapper {

// Which bytes a checksum is of.
struct BlockIdentity {
  [[no_unique_address]] NamedOnly named = NamedOnly();
  TileId tile = 0;
  std::uint32_t plane = 0;
  std::uint32_t generation = 0;
  std::uint64_t block = 0;  // of the plane
};

// What the values are, by a name that is written beside them: BlockHash of the bytes, its seed the
// XXH3 of three little-endian words of 64 bits: tile, (plane << 32) | generation, block.
inline constexpr std::string_view kBlockChecksumName =
    "aes-4x128 xxh3-64 of tile, plane, generation, block";

// Of the bytes, or of what has taken `size_bytes` of them.
// REQUIRES: a whole block, or the plane's last one.
SPILLWAY_API std::uint64_t block_checksum(const BlockIdentity& identity,
                                          std::span<const std::byte> bytes);
SPILLWAY_API std::uint64_t block_checksum(const BlockIdentity& identity, const BlockHash& hash,
                                          std::uint64_t size_bytes);

// block_checksum, of these or other values.
using BlockChecksum = std::uint64_t (*)(const BlockIdentity&, std::span<const std::byte>);
// The function whose values go by that name; nullptr when there is none.
SPILLWAY_API BlockChecksum find_block_checksum(std::string_view name);

}  // namespace spillway::swapper
