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

namespace {

// Takes tiles of `order` evenly, the share of them that fits, as a line is drawn in pixels: the
// credit grows with every tile by its part of the share, and pays for those that are taken.
void take_evenly(std::span<const TileId> order, std::span<const std::uint64_t> tile_elements,
                 std::uint64_t& capacity_elements, std::vector<bool>& resident) {
  double total = 0;
  for (const TileId tile : order) total += double(tile_elements[tile]);
  const double share = std::min(1.0, double(capacity_elements) / total);
  double credit = 0;
  for (const TileId tile : order) {
    const auto elements = double(tile_elements[tile]);
    credit += share * elements;
    if (credit < elements / 2 || tile_elements[tile] > capacity_elements) continue;
    resident[tile] = true;
    credit -= elements;
    capacity_elements -= tile_elements[tile];
  }
}

}  // namespace

std::vector<bool> choose_resident(const Schedule& schedule,
                                  std::span<const std::uint64_t> tile_elements,
                                  std::uint64_t capacity_elements) {
  std::vector<std::size_t> uses_per_step(tile_elements.size());
  std::vector<TileId> order;  // by first use
  for (const TileId tile : schedule.uses()) {
    SPILLWAY_CHECK(tile < tile_elements.size(), "the schedule uses a tile that has no size");
    if (++uses_per_step[tile] == 1) order.push_back(tile);
  }
  // An element of a tile that is used n times saves n moves a step, so tiles are taken by n.
  const auto uses = [&](TileId tile) { return uses_per_step[tile]; };
  std::ranges::stable_sort(order, std::ranges::greater(), uses);
  std::vector<bool> resident(tile_elements.size());
  for (auto first = order.begin(); first != order.end();) {
    const auto last = std::ranges::find_if(first, order.end(),
                                           [&](TileId tile) { return uses(tile) != uses(*first); });
    const std::span<TileId> equals(first, last);
    take_evenly(equals, tile_elements, capacity_elements, resident);
    // What is left over: the small tails fill it.
    std::ranges::stable_sort(equals, std::ranges::greater(),
                             [&](TileId tile) { return tile_elements[tile]; });
    for (const TileId tile : equals) {
      if (resident[tile] || tile_elements[tile] > capacity_elements) continue;
      resident[tile] = true;
      capacity_elements -= tile_elements[tile];
    }
    first = last;
  }
  return resident;
}

}  // namespace spillway::swapper
