// The tiles of a model's states on one rank, and what of them lies on NVMe, as training cuts and
// places them: what an estimate starts from. Pure arithmetic.
#pragma once

#include <spillway/swapper/layout.h>
#include <spillway/trainer/estimate.h>

#include <cstdint>
#include <vector>

namespace spillway::trainer {

// This rank's part of one section of a unit, cut into tiles.
struct SectionTiles {
  std::uint64_t elements = 0;
  std::vector<std::uint64_t> tiles;
};
struct UnitTiles {
  SectionTiles trainable, frozen;

  std::uint64_t elements() const { return trainable.elements + frozen.elements; }
};

std::vector<UnitTiles> cut_units(const EstimateInput& input);
// Elements of the largest, on this rank.
std::uint64_t largest_unit(const std::vector<UnitTiles>& units);

enum class Kept { kAll, kTrainable };  // frozen parameters have weights, and nothing else

// A store of tiles: what of it lies on NVMe and what in memory, unit by unit.
struct Store {
  struct FileBytes {
    std::uint64_t trainable = 0, frozen = 0;
  };
  std::vector<FileBytes> file_bytes;  // of each unit
  std::uint64_t memory_bytes = 0;
  std::uint64_t largest_tile_bytes = 0;
  std::uint64_t tiles = 0;
  std::uint64_t max_unit_tiles = 0;

  std::uint64_t updated_on_file() const {
    std::uint64_t bytes = 0;
    for (const FileBytes& unit : file_bytes) bytes += unit.trainable;
    return bytes;
  }
  std::uint64_t on_file() const {
    std::uint64_t bytes = updated_on_file();
    for (const FileBytes& unit : file_bytes) bytes += unit.frozen;
    return bytes;
  }
};

Store place(const std::vector<UnitTiles>& units, const swapper::Layout& layout,
            const OffloadConfig& offload, Kept kept);

}  // namespace spillway::trainer
