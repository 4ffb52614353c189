// Flips one byte of a stored tile, at every place where a check might miss it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "store_fixture.h"

namespace spillway::swapper {

struct Damage {
  std::uint32_t plane = 0;
  std::uint64_t block_offset = 0;  // of the block with the byte, in the file
  std::string named;               // "tile 1, plane exp_avg, block 0 at offset 4096"
};

// Calls use(Damage) for the first and last byte of each plane and of its first block, and for bytes
// between. Restores the byte after each call. REQUIRES: planes of more than a block.
template <typename Use>
void for_each_damage(TileStore& store, TileId tile, const Use& use) {
  const TileStore::Place place = store.place(tile);
  const Layout& layout = store.layout();
  const std::uint64_t elements = store.tile_elements(tile);
  for (std::uint32_t plane = 0; plane < layout.plane_count(); ++plane) {
    const std::size_t bytes = layout.plane_bytes(plane, elements);
    const std::size_t block_bytes = checksum_block_bytes(layout.planes()[plane]);
    ASSERT_GT(bytes, block_bytes);
    const std::uint64_t start = place.offset + layout.plane_offset(plane, elements);
    for (const std::size_t at :
         {std::size_t{0}, block_bytes - 1, block_bytes, bytes / 2, bytes - 1}) {
      const std::size_t block = at / block_bytes;
      const Damage damage{.plane = plane,
                          .block_offset = start + block * block_bytes,
                          .named = "tile " + std::to_string(tile) + ", plane " +
                                   layout.planes()[plane].name + ", block " +
                                   std::to_string(block) + " at offset " +
                                   std::to_string(start + block * block_bytes)};
      SCOPED_TRACE(damage.named + ", byte " + std::to_string(at) + " of the plane");
      flip_byte(place.path, start + at);
      use(damage);
      flip_byte(place.path, start + at);
    }
  }
}

inline void expect_corrupt(const Result<void>& result, const std::string& what) {
  ASSERT_FALSE(result) << "passed";
  EXPECT_EQ(result.error().kind, ErrorKind::kCorrupt) << result.error().message();
  EXPECT_THAT(result.error().message(), testing::HasSubstr(what));
}

}  // namespace spillway::swapper
