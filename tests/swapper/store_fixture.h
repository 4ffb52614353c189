// Shared by the tests of TileStore: an engine, a scratch directory, tiles with known bytes.
#pragma once

#include <gtest/gtest.h>
#include <spillway/swapper/tile_store.h>

#include <cstring>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "names_in.h"
#include "support/flip_byte.h"
#include "support/scratch.h"

namespace spillway::swapper {

inline pinned_pool::Lease heap_lease(std::size_t bytes) {
  return pinned_pool::Lease(aio::Buffer::allocate(bytes));
}

// Fills the planes of `range` with bytes that differ between tiles, planes and versions, and their
// padding with 0xee.
inline void fill(std::byte* data, const Layout& layout, std::uint64_t elements, PlaneRange range,
                 std::uint32_t version) {
  std::memset(data, 0xee, layout.range_bytes(range, elements));
  for (std::uint32_t plane = range.first; plane < range.first + range.count; ++plane) {
    std::mt19937_64 random(std::uint64_t{version} * 64 + plane);
    std::byte* const start = data + layout.plane_offset(plane, elements, range.first);
    const std::size_t bytes = layout.plane_bytes(plane, elements);
    for (std::size_t i = 0; i < bytes; i += 8) {
      const std::uint64_t value = random();
      std::memcpy(start + i, &value, std::min<std::size_t>(8, bytes - i));
    }
  }
}

// Returns whether the planes hold what fill() wrote, except for the padding.
inline bool holds(const std::byte* data, const Layout& layout, std::uint64_t elements,
                  PlaneRange range, std::uint32_t version) {
  std::vector<std::byte> expected(layout.range_bytes(range, elements));
  fill(expected.data(), layout, elements, range, version);
  for (std::uint32_t plane = range.first; plane < range.first + range.count; ++plane) {
    const std::size_t start = layout.plane_offset(plane, elements, range.first);
    if (std::memcmp(data + start, expected.data() + start, layout.plane_bytes(plane, elements)) !=
        0) {
      return false;
    }
  }
  return true;
}

inline std::unique_ptr<aio::Engine> make_engine(aio::BackendKind backend) {
  auto engine = aio::Engine::create(
      {.backend = backend, .block_size_bytes = 64 << 10, .queue_depth = 8, .thread_count = 2});
  if (!engine) return nullptr;
  return std::move(*engine);
}

inline Result<void> write_tile(Tier& tier, TileId tile, PlaneRange planes, std::uint32_t version) {
  const std::uint64_t elements = tier.tile_elements(tile);
  pinned_pool::Lease lease = heap_lease(tier.layout().range_bytes(planes, elements));
  fill(lease.data(), tier.layout(), elements, planes, version);
  auto written = tier.write(tile, planes, std::move(lease)).wait();
  if (!written) return tl::unexpected(written.error());
  return {};
}

// Reads the planes and compares them with `version`. kInvalid "other bytes" if the read succeeds
// but the bytes differ.
inline Result<void> check_tile(Tier& tier, TileId tile, PlaneRange planes, std::uint32_t version) {
  const std::uint64_t elements = tier.tile_elements(tile);
  auto read =
      tier.read(tile, planes, heap_lease(tier.layout().range_bytes(planes, elements))).wait();
  if (!read) return tl::unexpected(read.error());
  if (holds(read->data(), tier.layout(), elements, planes, version)) return {};
  return make_error(ErrorKind::kInvalid, "check", "", "other bytes");
}

inline testing::AssertionResult ok(const Result<void>& result) {
  if (result) return testing::AssertionSuccess();
  return testing::AssertionFailure() << result.error().message();
}

}  // namespace spillway::swapper
