#include "trainer/plan/partition.h"
#include <spillway/aio/check.h>

#include <algorithm>

namespace spillway::trainer {
namespace {

std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

UnitPartition::UnitPartition(std::string name, std::vector<ParameterInfo> parameters,
                             std::uint32_t world_size, std::uint32_t rank,
                             std::uint64_t max_tile_elements)
    : name_(std::move(name)), parameters_(std::move(parameters)), world_size_(world_size) {
  SPILLWAY_CHECK(world_size > 0 && rank < world_size, "the rank must be below the world size");
  SPILLWAY_CHECK(max_tile_elements > 0, "a tile holds at least one element");
  offsets_.resize(parameters_.size());
  for (const Section section : {kTrainable, kFrozen}) {
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (parameters_[i].frozen != (section == kFrozen)) continue;
      offsets_[i] = full_[section];
      full_[section] += round_up(parameters_[i].elements, kParameterAlignment);
    }
    full_[section] = round_up(full_[section], world_size * kParameterAlignment);
    cut(section, rank, max_tile_elements);
  }
}

void UnitPartition::cut(Section section, std::uint32_t rank, std::uint64_t max_tile_elements) {
  const std::uint64_t part = part_elements(section);
  for (std::uint64_t offset = 0; offset < part; offset += max_tile_elements) {
    TileSpan tile{section, offset, std::min(max_tile_elements, part - offset), {}};
    const std::uint64_t begin = rank * part + offset;
    const std::uint64_t end = begin + tile.elements;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (parameters_[i].frozen != (section == kFrozen)) continue;
      const std::uint64_t first = std::max(begin, offsets_[i]);
      const std::uint64_t last = std::min(end, offsets_[i] + parameters_[i].elements);
      if (first >= last) continue;
      tile.segments.push_back({static_cast<std::uint32_t>(i), first - begin, last - first});
    }
    std::sort(tile.segments.begin(), tile.segments.end(),
              [](const Segment& a, const Segment& b) { return a.tile_offset < b.tile_offset; });
    tiles_.push_back(std::move(tile));
  }
}

}  // namespace spillway::trainer
