#include <spillway/aio/check.h>
#include <spillway/swapper/schedule.h>
#include <algorithm>
#include <numeric>
#include <utility>

namespace spillway::swapper {

Schedule::Schedule(std::vector<TileId> uses, std::uint32_t tile_count)
    : uses_(std::move(uses)), positions_(tile_count) {
  for (std::size_t position = 0; position < uses_.size(); ++position) {
    SPILLWAY_CHECK(uses_[position] < tile_count, "the schedule uses a tile that does not exist");
    positions_[uses_[position]].push_back(position);
  }
}

std::uint64_t Schedule::distance_to_next_use(std::size_t position, TileId tile) const {
  SPILLWAY_CHECK(position < uses_.size(), "a position lies within the step");
  SPILLWAY_CHECK(tile < positions_.size(), "no such tile");
  const std::vector<std::size_t>& uses = positions_[tile];
  if (uses.empty()) return kNever;
  const auto next = std::lower_bound(uses.begin(), uses.end(), position);
  if (next != uses.end()) return *next - position;
  return uses_.size() - position + uses.front();  // in the next repetition of the step
}

TileId Schedule::farthest_next_use(std::size_t position, std::span<const TileId> candidates) const {
  SPILLWAY_CHECK(!candidates.empty(), "nothing to choose from");
  return *std::max_element(candidates.begin(), candidates.end(), [&](TileId a, TileId b) {
    return distance_to_next_use(position, a) < distance_to_next_use(position, b);
  });
}

std::vector<TileId> Schedule::upcoming(std::size_t position, std::size_t count) const {
  SPILLWAY_CHECK(position < uses_.size(), "a position lies within the step");
  std::vector<TileId> tiles;
  std::vector<bool> seen(positions_.size());
  for (std::size_t i = 0; i < uses_.size() && tiles.size() < count; ++i) {
    const TileId tile = uses_[(position + i) % uses_.size()];
    if (!seen[tile]) tiles.push_back(tile);
    seen[tile] = true;
  }
  return tiles;
}

std::vector<bool> choose_resident(const Schedule& schedule,
                                  std::span<const std::uint64_t> tile_elements,
                                  std::uint64_t capacity_elements) {
  std::vector<std::size_t> uses_per_step(tile_elements.size());
  for (const TileId tile : schedule.uses()) {
    SPILLWAY_CHECK(tile < tile_elements.size(), "the schedule uses a tile that has no size");
    ++uses_per_step[tile];
  }
  // An element of a tile that is used n times saves n moves a step, so tiles are taken by n; among
  // equals the large ones first, because the small tails then fill what is left over.
  std::vector<TileId> order(tile_elements.size());
  std::iota(order.begin(), order.end(), TileId{0});
  std::stable_sort(order.begin(), order.end(), [&](TileId a, TileId b) {
    if (uses_per_step[a] != uses_per_step[b]) return uses_per_step[a] > uses_per_step[b];
    return tile_elements[a] > tile_elements[b];
  });
  std::vector<bool> resident(tile_elements.size());
  for (const TileId tile : order) {
    if (uses_per_step[tile] == 0 || tile_elements[tile] > capacity_elements) continue;
    resident[tile] = true;
    capacity_elements -= tile_elements[tile];
  }
  return resident;
}

}  // namespace spillway::swapper
