// Placement: assigns tiles to segment files, before a byte is written.
//
// A place holds one whole tile. Each tile in turn goes to the directory that would finish it first,
// given its earlier tiles and its free space. So neighbours in the schedule are on different
// drives, and a drive of three times the speed gets three tiles of four. A segment is full once it
// has reached `segment_bytes`. Pure arithmetic, without I/O.
#pragma once

#include <spillway/swapper/layout.h>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace spillway::swapper {

// Space for one tile of `elements`, at `offset` bytes of a segment file.
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
  std::vector<PlacedTile> places;  // of each tile, in order; then the spare ones
};

struct DirectorySpace {
  std::string path;
  std::uint64_t device = 0;      // directories of one filesystem share their free space
  std::uint64_t free_bytes = 0;  // of the directory: those of its project, if that has a limit
  double speed = 1;              // positive, in any unit that all directories share
  // Directories of one quota project of a filesystem share its limit; 0: of none.
  std::uint32_t project = 0;
  std::uint64_t device_free_bytes = 0;  // 0: as much as the directories have
};

struct PlacementOptions {
  std::uint64_t segment_bytes = 0;
  double spare_fraction = 0.0;
};

// Places the tiles. Spare places: a share `spare_fraction` of the tiles of each size, rounded up,
// so that as many can always have a second generation. kNoSpace, with the sum and the free space.
Result<Placement> place_tiles(const Layout& layout, std::span<const std::uint64_t> tile_elements,
                              std::span<const DirectorySpace> directories,
                              const PlacementOptions& options);

}  // namespace spillway::swapper
