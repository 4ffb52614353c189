#include <spillway/swapper/schedule.h>

#include "objects.h"
#include "options.h"

using namespace spillway;
using namespace spillway::c;

namespace {

constexpr std::uint32_t kMaxTiles = std::uint32_t{1} << 24;

struct ScheduleObject : Object {
  static constexpr Kind kKind = Kind::kSchedule;
  ScheduleObject(std::vector<swapper::TileId> uses, std::uint32_t tiles)
      : Object(kKind), schedule(std::move(uses), tiles), tile_count(tiles) {}
  const swapper::Schedule schedule;
  const std::uint32_t tile_count;
};

using Found = tl::expected<std::shared_ptr<ScheduleObject>, spillway_status>;

// Checks what the C++ class requires.
spillway_status check_tiles(std::span<const std::uint32_t> tiles, std::uint32_t tile_count,
                            const char* what) {
  for (const std::uint32_t tile : tiles) {
    if (tile < tile_count) continue;
    return failed(
        SPILLWAY_MISUSE, what,
        "tile " + std::to_string(tile) + " of " + std::to_string(tile_count) + " does not exist");
  }
  return SPILLWAY_OK;
}

// Finds a schedule that has the position.
Found find_at(spillway_schedule* schedule, std::size_t position, const char* what) {
  auto object = find<ScheduleObject>(schedule, what);
  if (!object || position < (*object)->schedule.uses().size()) return object;
  return tl::unexpected(failed(SPILLWAY_MISUSE, what,
                               "position " + std::to_string(position) + " of a step of " +
                                   std::to_string((*object)->schedule.uses().size()) + " uses"));
}

}  // namespace

spillway_status spillway_schedule_create(const uint32_t* uses, size_t count, uint32_t tile_count,
                                         spillway_schedule** schedule) {
  return guarded("create schedule", [&] {
    const char* const what = "create schedule";
    if (auto status = want(schedule, what)) return status;
    *schedule = nullptr;
    if (uses == nullptr || count == 0) return failed(SPILLWAY_MISUSE, what, "there are no uses");
    if (tile_count > kMaxTiles) {
      return failed(SPILLWAY_MISUSE, what,
                    std::to_string(tile_count) + " tiles, at most " + std::to_string(kMaxTiles));
    }
    if (auto status = check_tiles({uses, count}, tile_count, what)) return status;
    return give(std::make_shared<ScheduleObject>(std::vector<swapper::TileId>(uses, uses + count),
                                                 tile_count),
                schedule, what);
  });
}

spillway_status spillway_schedule_destroy(spillway_schedule* schedule) {
  return guarded("destroy schedule",
                 [&] { return remove_object(schedule, Kind::kSchedule, "destroy schedule"); });
}

spillway_status spillway_schedule_distance_to_next_use(spillway_schedule* schedule, size_t position,
                                                       uint32_t tile, uint64_t* distance) {
  return guarded("distance to next use", [&] {
    const char* const what = "distance to next use";
    if (auto status = want(distance, what)) return status;
    *distance = 0;
    auto object = find_at(schedule, position, what);
    if (!object) return object.error();
    if (auto status = check_tiles({&tile, 1}, (*object)->tile_count, what)) return status;
    *distance = (*object)->schedule.distance_to_next_use(position, tile);
    return SPILLWAY_OK;
  });
}

spillway_status spillway_schedule_farthest_next_use(spillway_schedule* schedule, size_t position,
                                                    const uint32_t* candidates, size_t count,
                                                    uint32_t* tile) {
  return guarded("farthest next use", [&] {
    const char* const what = "farthest next use";
    if (auto status = want(tile, what)) return status;
    *tile = 0;
    auto object = find_at(schedule, position, what);
    if (!object) return object.error();
    if (candidates == nullptr || count == 0) {
      return failed(SPILLWAY_MISUSE, what, "there are no candidates");
    }
    const std::span<const std::uint32_t> tiles(candidates, count);
    if (auto status = check_tiles(tiles, (*object)->tile_count, what)) return status;
    *tile = (*object)->schedule.farthest_next_use(position, tiles);
    return SPILLWAY_OK;
  });
}

spillway_status spillway_schedule_upcoming(spillway_schedule* schedule, size_t position,
                                           size_t capacity, uint32_t* tiles, size_t* count) {
  return guarded("upcoming tiles", [&] {
    const char* const what = "upcoming tiles";
    if (auto status = want(count, what)) return status;
    *count = 0;
    auto object = find_at(schedule, position, what);
    if (!object) return object.error();
    if (capacity > 0) {
      if (auto status = want(tiles, what)) return status;
    }
    const auto upcoming = (*object)->schedule.upcoming(position, capacity);
    std::copy(upcoming.begin(), upcoming.end(), tiles);
    *count = upcoming.size();
    return SPILLWAY_OK;
  });
}

spillway_status spillway_choose_resident(spillway_schedule* schedule, const uint64_t* tile_elements,
                                         uint32_t tile_count, uint64_t capacity_elements,
                                         uint8_t* resident) {
  return guarded("choose resident tiles", [&] {
    const char* const what = "choose resident tiles";
    if (auto status = want(resident, what)) return status;
    auto object = find<ScheduleObject>(schedule, what);
    if (!object) return object.error();
    if (tile_elements == nullptr) return failed(SPILLWAY_MISUSE, what, "the elements are NULL");
    if (tile_count != (*object)->tile_count) {
      return failed(SPILLWAY_MISUSE, what,
                    std::to_string(tile_count) + " tiles, and the schedule has " +
                        std::to_string((*object)->tile_count));
    }
    const auto chosen = swapper::choose_resident((*object)->schedule, {tile_elements, tile_count},
                                                 capacity_elements);
    std::copy(chosen.begin(), chosen.end(), resident);
    return SPILLWAY_OK;
  });
}
