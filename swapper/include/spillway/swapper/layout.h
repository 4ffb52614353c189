// Layout: the planes of a tile, as data.
//
// A tile is a run of consecutive elements. Its planes are arrays that belong to the same elements
// (the high half of a weight, its low half, two moments; a moment and its scales). Inside a tile
// the planes follow each other, each padded to kPlaneAlignment bytes, so that any run of
// neighbouring planes is one contiguous transfer. Immutable. Threads: any.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace spillway::swapper {

inline constexpr std::size_t kPlaneAlignment = 4096;  // bytes

using TileId = std::uint32_t;

struct Plane {
  std::string name;                      // "param_hi", "exp_avg", ...: named in errors
  std::uint32_t bytes_per_block = 0;     // bytes that ...
  std::uint32_t elements_per_block = 1;  // ... this many elements take
};

// Elements of a range: the unit in which the planes of a tile are verified and recorded (the last
// range of a tile may be shorter). With 16 bytes per element it has 512 KiB and fits a core's
// cache.
inline constexpr std::uint64_t kRangeElements = 32768;

// NamedOnly: the first member of a struct of similar integers. It enforces designated initialisers,
// as in PlaneRange{.first = 1, .count = 2}.
class NamedOnly {
 public:
  explicit NamedOnly() = default;
};

// Neighbouring planes [first, first + count).
struct PlaneRange {
  [[no_unique_address]] NamedOnly named = NamedOnly();
  std::uint32_t first = 0;
  std::uint32_t count = 0;
};

// Elements [first, first + count) of a tile.
struct ElementRange {
  [[no_unique_address]] NamedOnly named = NamedOnly();
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};

// How to cut a run of elements into tiles.
struct TileCut {
  [[no_unique_address]] NamedOnly named = NamedOnly();
  std::uint64_t total_elements = 0;
  std::uint64_t tile_elements = 0;  // of each tile except the last, which takes the rest
};
// Returns the elements of each tile, for TileStore::create. REQUIRES: tile_elements > 0.
SPILLWAY_API std::vector<std::uint64_t> cut_into_tiles(const TileCut& cut);

class SPILLWAY_API Layout {
 public:
  // REQUIRES: at least one plane, positive sizes, distinct names.
  explicit Layout(std::vector<Plane> planes);

  const std::vector<Plane>& planes() const noexcept { return planes_; }
  std::uint32_t plane_count() const noexcept { return static_cast<std::uint32_t>(planes_.size()); }
  PlaneRange all() const noexcept { return {.first = 0, .count = plane_count()}; }

  // Returns the bytes of one plane of a tile of `elements`, without and with padding.
  std::size_t plane_bytes(std::uint32_t plane, std::uint64_t elements) const;
  std::size_t padded_plane_bytes(std::uint32_t plane, std::uint64_t elements) const;
  // Returns the start of `plane`, in bytes from the start of plane `first`.
  std::size_t plane_offset(std::uint32_t plane, std::uint64_t elements,
                           std::uint32_t first = 0) const;
  // Returns the bytes of a transfer of these planes, padding included.
  std::size_t range_bytes(PlaneRange range, std::uint64_t elements) const;
  std::size_t tile_bytes(std::uint64_t elements) const { return range_bytes(all(), elements); }
  // Returns the bytes of a tile of each of these sizes, together; nothing if they are more than
  // 2^63 - 1. The functions above are for tiles that were found to be less.
  std::optional<std::uint64_t> bytes_of_tiles(std::span<const std::uint64_t> elements) const;

 private:
  std::vector<Plane> planes_;
};

}  // namespace spillway::swapper
