#include "checksums.h"

#include <xxhash.h>

#include <spillway/aio/check.h>
#include <spillway/swapper/block_checksum.h>
#include <spillway/swapper/tile_store.h>
#include <algorithm>
#include <array>

namespace spillway::swapper {
namespace {

// Of one checksum: at least 1, and a divisor of those of a range where that has whole ones.
std::size_t plane_blocks_per_checksum(const Plane& plane) {
  const std::size_t of_range = std::max<std::size_t>(kRangeElements / plane.elements_per_block, 1);
  std::size_t parts = 1;
  while (parts < of_range && (of_range % parts != 0 ||
                              of_range / parts * plane.bytes_per_block > kMaxChecksumBlockBytes)) {
    ++parts;
  }
  return of_range / parts;
}

}  // namespace

std::size_t checksum_block_bytes(const Plane& plane) {
  return plane_blocks_per_checksum(plane) * plane.bytes_per_block;
}

std::uint64_t block_checksum(const BlockIdentity& identity, const BlockHash& hash,
                             std::uint64_t size_bytes) {
  const std::array<std::uint64_t, 3> who = {
      identity.tile, (std::uint64_t{identity.plane} << 32) | identity.generation, identity.block};
  return hash.value(size_bytes, XXH3_64bits(who.data(), sizeof who));
}

std::uint64_t block_checksum(const BlockIdentity& identity, std::span<const std::byte> bytes) {
  BlockHash hash;
  hash.add(bytes);
  return block_checksum(identity, hash, bytes.size());
}

BlockChecksum find_block_checksum(std::string_view name) {
  constexpr BlockChecksum kOfBytes = &block_checksum;  // the overload of that type
  return name == kBlockChecksumName ? kOfBytes : nullptr;
}

TileChecksums::TileChecksums(const Layout& layout, std::uint64_t elements) {
  planes_.reserve(layout.plane_count());
  for (std::uint32_t plane = 0; plane < layout.plane_count(); ++plane) {
    const Plane& p = layout.planes()[plane];
    const std::size_t bytes = layout.plane_bytes(plane, elements);
    const std::size_t block_bytes = checksum_block_bytes(p);
    const std::size_t blocks = (bytes + block_bytes - 1) / block_bytes;
    planes_.push_back({.plane_bytes = bytes,
                       .block_bytes = block_bytes,
                       .block_elements = plane_blocks_per_checksum(p) * p.elements_per_block,
                       .sums = std::vector<std::uint64_t>(blocks)});
  }
}

BlockRange TileChecksums::blocks(std::uint32_t plane, ElementRange range) const {
  const PlaneSums& p = planes_[plane];
  const std::size_t end = (range.first + range.count + p.block_elements - 1) / p.block_elements;
  return {range.first / p.block_elements, std::min(end, p.sums.size())};
}

std::size_t TileChecksums::size_of(std::uint32_t plane, std::size_t block) const {
  const PlaneSums& p = planes_[plane];
  return std::min(p.block_bytes, p.plane_bytes - block * p.block_bytes);
}

std::uint64_t TileChecksums::value_of(const PlaneIdentity& identity, const BlockHash& hash,
                                      std::size_t block) const {
  const BlockIdentity of_block{.tile = identity.tile,
                               .plane = identity.plane,
                               .generation = identity.generation,
                               .block = block};
  return block_checksum(of_block, hash, size_of(identity.plane, block));
}

std::uint64_t TileChecksums::value_of(const PlaneIdentity& identity, const std::byte* data,
                                      std::size_t block) const {
  BlockHash hash;
  hash.add({data + block * planes_[identity.plane].block_bytes, size_of(identity.plane, block)});
  return value_of(identity, hash, block);
}

void TileChecksums::hash(const PlaneIdentity& identity, const std::byte* data, BlockRange blocks,
                         std::span<std::uint64_t> sums) const {
  for (std::size_t block = blocks.first; block < blocks.end; ++block) {
    sums[block] = value_of(identity, data, block);
  }
}

void TileChecksums::record(const PlaneIdentity& identity, const std::byte* data) {
  hash(identity, data, blocks(identity.plane), planes_[identity.plane].sums);
}

void TileChecksums::adopt(std::uint32_t plane, std::span<const std::uint64_t> sums) {
  SPILLWAY_CHECK(sums.size() == planes_[plane].sums.size(), "one value for each block");
  std::ranges::copy(sums, planes_[plane].sums.begin());
}

std::optional<std::size_t> TileChecksums::first_mismatch(const PlaneIdentity& identity,
                                                         const std::byte* data,
                                                         BlockRange blocks) const {
  const PlaneSums& plane = planes_[identity.plane];
  for (std::size_t block = blocks.first; block < blocks.end; ++block) {
    if (plane.sums[block] != value_of(identity, data, block)) return block;
  }
  return std::nullopt;
}

std::size_t TileChecksums::memory_bytes() const noexcept {
  std::size_t bytes = 0;
  for (const PlaneSums& plane : planes_) bytes += plane.sums.capacity() * sizeof(std::uint64_t);
  return bytes;
}

}  // namespace spillway::swapper
