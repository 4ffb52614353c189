// TileChecksums: what the blocks of one stored tile must hash to, kept in RAM apart from the data.
//
// Each checksum_block_bytes of a plane has one block_checksum over its bytes without the padding,
// seeded with tile, plane, block and generation. As the value of the last write is here and not
// beside the bytes, a lost write (the old bytes come back) and a misdirected one (another block's
// bytes come back) differ from it just as flipped bits do. The one thing that passes is the same
// content once more for the same block, and that is no harm: those are the right bytes. A damaged
// block passes by chance once in 2^64. Threads: different blocks may be used at the same time.
#pragma once

#include <spillway/swapper/tier.h>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace spillway::swapper {

// Which bytes a checksum is of.
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
  // For tiles of `elements`; knows nothing until record() or adopt() is called.
  TileChecksums(const Layout& layout, std::uint64_t elements);

  std::size_t block_bytes(std::uint32_t plane) const { return planes_[plane].block_bytes; }
  // Of whole blocks.
  std::uint64_t block_elements(std::uint32_t plane) const { return planes_[plane].block_elements; }
  // One value a block.
  const std::vector<std::uint64_t>& values(std::uint32_t plane) const {
    return planes_[plane].sums;
  }
  BlockRange blocks(std::uint32_t plane) const { return {0, planes_[plane].sums.size()}; }
  // REQUIRES: both ends of the range are ends of blocks.
  BlockRange blocks(std::uint32_t plane, ElementRange range) const;

  // Writes the value of each of the blocks to sums[its number]. `data`: the plane's first byte,
  // here and below.
  void hash(const PlaneIdentity& identity, const std::byte* data, BlockRange blocks,
            std::span<std::uint64_t> sums) const;
  void record(const PlaneIdentity& identity, const std::byte* data);
  // The value of a block whose bytes were hashed elsewhere.
  std::uint64_t value_of(const PlaneIdentity& identity, const BlockHash& hash,
                         std::size_t block) const;
  // What is recorded.
  std::uint64_t value(std::uint32_t plane, std::size_t block) const {
    return planes_[plane].sums[block];
  }
  // Takes the values of all the plane's blocks.
  void adopt(std::uint32_t plane, std::span<const std::uint64_t> sums);
  // The first of the blocks whose bytes are not those recorded.
  std::optional<std::size_t> first_mismatch(const PlaneIdentity& identity, const std::byte* data,
                                            BlockRange blocks) const;
  std::size_t memory_bytes() const noexcept;

 private:
  struct PlaneSums {
    std::size_t plane_bytes = 0;
    std::size_t block_bytes = 0;
    std::uint64_t block_elements = 0;
    std::vector<std::uint64_t> sums;  // one a block
  };
  std::size_t size_of(std::uint32_t plane, std::size_t block) const;  // bytes
  std::uint64_t value_of(const PlaneIdentity& identity, const std::byte* data,
                         std::size_t block) const;

  std::vector<PlaneSums> planes_;
};

}  // namespace spillway::swapper
