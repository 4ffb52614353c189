// BlockChecksum: the checksum of one block of a stored tile. A TileStore keeps it in RAM, and a
// reader of a sealed segment compares the bytes with it.
//
// The value depends on the bytes and on their identity: tile, plane, block, and the generation of
// the write. So the right bytes in the wrong place are detected like flipped bits. Threads: any.
#pragma once

#include <spillway/aio/export.h>
#include <spillway/swapper/block_hash.h>
#include <spillway/swapper/layout.h>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace spillway::swapper {

// BlockIdentity: the place and generation of a block.
struct BlockIdentity {
  [[no_unique_address]] NamedOnly named = NamedOnly();
  TileId tile = 0;
  std::uint32_t plane = 0;
  std::uint32_t generation = 0;
  std::uint64_t block = 0;  // of the plane
};

// The name of the algorithm, which is written beside the values: BlockHash of the bytes, seeded
// with the XXH3 of three little-endian 64-bit words: tile, (plane << 32) | generation, block.
inline constexpr std::string_view kBlockChecksumName =
    "aes-4x128 xxh3-64 of tile, plane, generation, block";

// Computes the checksum of `bytes`, or of a `hash` that was fed `size_bytes` bytes.
// REQUIRES: a whole block, or the plane's last one.
SPILLWAY_API std::uint64_t block_checksum(const BlockIdentity& identity,
                                          std::span<const std::byte> bytes);
SPILLWAY_API std::uint64_t block_checksum(const BlockIdentity& identity, const BlockHash& hash,
                                          std::uint64_t size_bytes);

// A function like block_checksum, of this or another algorithm.
using BlockChecksum = std::uint64_t (*)(const BlockIdentity&, std::span<const std::byte>);
// Returns the function of the algorithm `name`; nullptr if it is unknown.
SPILLWAY_API BlockChecksum find_block_checksum(std::string_view name);

}  // namespace spillway::swapper
