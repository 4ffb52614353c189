// Placement: which tile lies in which segment file, worked out before a byte is written.
//
// A place holds one whole tile. Tile after tile goes to the directory that will be done with it
// first, after all it has so far (and that still has room): neighbours in the schedule lie on
// different drives, and a drive of three times the speed gets three tiles of four. A segment is
// closed when it has reached `segment_bytes`. Pure arithmetic: no I/O.
#pragma once

#include <spillway/swapper/layout.h>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace spillway::swapper {

// Room for one tile of `elements`, at `offset` bytes of a segment file.
struct PlacedTile {
  std::uint32_t segment = 0;
  std::uint64_t offset = 0;
  std::uint64_t elements = 0;
};

struct Segment {
  std::size_t directory = 0;
  std::uint64_t size_bytes = 0;
};

struct Placement {
  std::vector<Segment> segments;
  std::vector<PlacedTile> places;  // of each tile, in order; behind them the spare ones
};

struct DirectorySpace {
  std::string path;
  std::uint64_t device = 0;  // directories of one filesystem share their free space
  std::uint64_t free_bytes = 0;
  double speed = 1;  // positive, in any unit that all directories share
};

struct PlacementOptions {
  std::uint64_t segment_bytes = 0;
  double spare_fraction = 0.0;
};

// Spare places: of the tiles of each size the given share, rounded up, so that this many of them
// can have a second generation whatever was moved before. kNoSpace with the sum and what is free.
Result<Placement> place_tiles(const Layout& layout, std::span<const std::uint64_t> tile_elements,
                              std::span<const DirectorySpace> directories,
                              const PlacementOptions& options);

}  // namespace spillway::swapper
