// TileChecksums: the checksums of one stored tile, kept in RAM apart from the data.
//
// Each checksum_block_bytes of a plane have one block_checksum, without the padding, seeded with
// tile, plane, block and generation. The value of the last write is here, not beside the bytes: so
// a lost write (the old bytes return) and a misdirected one (another block's bytes return) are
// detected like flipped bits. A damaged block passes with a probability of 2^-64. Threads: any, on
// different blocks.
#pragma once

#include <spillway/swapper/tier.h>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace spillway::swapper {

// PlaneIdentity: the place and generation of a plane.
struct PlaneIdentity {
  TileId tile = 0;
  std::uint32_t plane = 0;
  std::uint32_t generation = 0;
};

// Blocks [first, end) of a plane.
struct BlockRange {
  std::size_t first = 0;
  std::size_t end = 0;
};

class TileChecksums {
 public:
  // Makes empty checksums of a tile of `elements`; `record` or `adopt` fills them.
  TileChecksums(const Layout& layout, std::uint64_t elements);

  std::size_t block_bytes(std::uint32_t plane) const { return planes_[plane].block_bytes; }
  // Returns the elements of a whole block.
  std::uint64_t block_elements(std::uint32_t plane) const { return planes_[plane].block_elements; }
  // Returns one value per block.
  const std::vector<std::uint64_t>& values(std::uint32_t plane) const {
    return planes_[plane].sums;
  }
  BlockRange blocks(std::uint32_t plane) const { return {0, planes_[plane].sums.size()}; }
  // Returns the blocks of a range. REQUIRES: both ends of the range are ends of blocks.
  BlockRange blocks(std::uint32_t plane, ElementRange range) const;

  // Writes the value of block i to `sums[i]`. `data`, here and below: the plane's first byte.
  void hash(const PlaneIdentity& identity, const std::byte* data, BlockRange blocks,
            std::span<std::uint64_t> sums) const;
  void record(const PlaneIdentity& identity, const std::byte* data);
  // Returns the value of a block whose bytes were hashed elsewhere.
  std::uint64_t value_of(const PlaneIdentity& identity, const BlockHash& hash,
                         std::size_t block) const;
  // Returns the recorded value.
  std::uint64_t value(std::uint32_t plane, std::size_t block) const {
    return planes_[plane].sums[block];
  }
  // Records the values of all blocks of the plane.
  void adopt(std::uint32_t plane, std::span<const std::uint64_t> sums);
  // Returns the first block whose bytes do not match the recorded value.
  std::optional<std::size_t> first_mismatch(const PlaneIdentity& identity, const std::byte* data,
                                            BlockRange blocks) const;
  std::size_t memory_bytes() const noexcept;

 private:
  struct PlaneSums {
    std::size_t plane_bytes = 0;
    std::size_t block_bytes = 0;
    std::uint64_t block_elements = 0;
    std::vector<std::uint64_t> sums;  // one per block
  };
  std::size_t size_of(std::uint32_t plane, std::size_t block) const;  // bytes
  std::uint64_t value_of(const PlaneIdentity& identity, const std::byte* data,
                         std::size_t block) const;

  std::vector<PlaneSums> planes_;
};

}  // namespace spillway::swapper
