// UnitPartition: the layout of a unit's parameters in one flat array, the part of it that a rank
// owns (ZeRO-3), and the tiles of that part. Pure arithmetic. Immutable; threads: any.
//
// A unit is flattened into two sections, trainable and frozen parameters: frozen ones have no
// optimizer state, so a tile belongs to one section. In a section every parameter starts at a
// multiple of kParameterAlignment elements: its address has the same alignment in every mode, so a
// GEMM takes the same path. A section is padded to a multiple of world_size x kParameterAlignment;
// rank r owns the r-th of world_size equal parts.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace spillway::trainer {

inline constexpr std::uint64_t kParameterAlignment = 64;  // elements

struct ParameterInfo {
  std::string name;  // within the unit: "attn.c_attn.weight"
  std::vector<std::int64_t> shape;
  std::uint64_t elements = 0;
  bool frozen = false;
  bool decay = true;  // weight decay applies
};

enum Section : std::uint32_t { kTrainable = 0, kFrozen = 1 };

// A run of one parameter's elements inside a tile.
struct Segment {
  std::uint32_t parameter = 0;    // index into the unit's parameters
  std::uint64_t tile_offset = 0;  // elements from the start of the tile
  std::uint64_t elements = 0;
};

struct TileSpan {
  Section section = kTrainable;
  std::uint64_t offset = 0;  // elements from the start of this rank's part of the section
  std::uint64_t elements = 0;
  std::vector<Segment> segments;  // padding belongs to none
};

class UnitPartition {
 public:
  UnitPartition(std::string name, std::vector<ParameterInfo> parameters, std::uint32_t world_size,
                std::uint32_t rank, std::uint64_t max_tile_elements);

  const std::string& name() const noexcept { return name_; }
  const std::vector<ParameterInfo>& parameters() const noexcept { return parameters_; }
  // Return the elements of the whole section, and of this rank's part, padding included.
  std::uint64_t full_elements(Section section) const { return full_[section]; }
  std::uint64_t part_elements(Section section) const { return full_[section] / world_size_; }
  std::uint64_t full_elements() const { return full_[0] + full_[1]; }
  // Returns the start of a parameter, in elements from the start of its section.
  std::uint64_t parameter_offset(std::size_t parameter) const { return offsets_[parameter]; }
  const std::vector<TileSpan>& tiles() const noexcept { return tiles_; }

 private:
  void cut(Section section, std::uint32_t rank, std::uint64_t max_tile_elements);

  std::string name_;
  std::vector<ParameterInfo> parameters_;
  std::uint32_t world_size_;
  std::array<std::uint64_t, 2> full_{};
  std::vector<std::uint64_t> offsets_;
  std::vector<TileSpan> tiles_;
};

}  // namespace spillway::trainer
