#include "trainer/plan/placed_states.h"

#include <spillway/swapper/schedule.h>
#include <algorithm>
#include <numeric>
#include "trainer/plan/optimizer_layout.h"
#include "trainer/plan/partition.h"
#include "trainer/plan/state_buffers.h"

namespace spillway::trainer {
namespace {

SectionTiles cut(const EstimateInput& input, std::uint64_t size) {
  const std::uint64_t most =
      input.max_tile_elements > 0 ? input.max_tile_elements : kMaxTileElements;
  const std::uint64_t tile = tile_elements(input.config, most);
  const std::uint64_t multiple = input.world_size * kParameterAlignment;
  SectionTiles section{(size + multiple - 1) / multiple * kParameterAlignment, {}};
  for (std::uint64_t left = section.elements; left > 0; left -= section.tiles.back()) {
    section.tiles.push_back(std::min(tile, left));
  }
  return section;
}

}  // namespace

std::vector<UnitTiles> cut_units(const EstimateInput& input) {
  std::vector<UnitTiles> units;
  for (const UnitShape& unit : input.model.units) {
    units.push_back({cut(input, unit.trainable), cut(input, unit.frozen)});
  }
  return units;
}

std::uint64_t largest_unit(const std::vector<UnitTiles>& units) {
  std::uint64_t largest = 0;
  for (const UnitTiles& unit : units) largest = std::max(largest, unit.elements());
  return largest;
}

Store place(const std::vector<UnitTiles>& units, const swapper::Layout& layout,
            const OffloadConfig& offload, Kept kept) {
  std::vector<std::uint64_t> all;
  const auto add = [&](const SectionTiles& section) {
    all.insert(all.end(), section.tiles.begin(), section.tiles.end());
  };
  for (const UnitTiles& unit : units) {
    add(unit.trainable);
    if (kept == Kept::kAll) add(unit.frozen);
  }
  std::vector<bool> in_memory(all.size(), true);
  if (offload.device == OffloadDevice::kNvme) {
    std::vector<swapper::TileId> order(all.size());
    std::iota(order.begin(), order.end(), swapper::TileId{0});
    const swapper::Schedule schedule(order, static_cast<std::uint32_t>(all.size()));
    // What the machine will have free for "auto" is not known here: nothing, at worst.
    const bool automatic = offload.max_in_cpu_elements == OffloadConfig::kAutoCache;
    in_memory =
        swapper::choose_resident(schedule, all, automatic ? 0 : offload.max_in_cpu_elements);
  }
  Store store;
  const auto place_section = [&](const SectionTiles& section, std::uint64_t* file_bytes) {
    for (const std::uint64_t elements : section.tiles) {
      const std::uint64_t bytes = layout.tile_bytes(elements);
      (in_memory[store.tiles++] ? store.memory_bytes : *file_bytes) += bytes;
      store.largest_tile_bytes = std::max(store.largest_tile_bytes, bytes);
    }
  };
  for (const UnitTiles& unit : units) {
    const std::uint64_t before = store.tiles;
    Store::FileBytes bytes;
    place_section(unit.trainable, &bytes.trainable);
    if (kept == Kept::kAll) place_section(unit.frozen, &bytes.frozen);
    store.file_bytes.push_back(bytes);
    store.max_unit_tiles = std::max(store.max_unit_tiles, store.tiles - before);
  }
  return store;
}

}  // namespace spillway::trainer
