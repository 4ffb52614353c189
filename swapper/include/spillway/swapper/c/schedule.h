// Part of <spillway/spillway.h>: the order in which tiles will be needed, known in advance and
// repeated every step. It says which tile to read next, and which one a cache should evict: the one
// needed farthest in the future. Arithmetic only: no call here blocks.
//
// A position is that of a use in the step; SPILLWAY_MISUSE if it lies past the step, or if a tile
// does not exist.
#pragma once

#include <spillway/swapper/c/error.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct spillway_schedule spillway_schedule;

// The distance of a tile that the step does not use.
#define SPILLWAY_NEVER UINT64_MAX

// Makes the schedule of a step that repeats for ever: the tiles `uses`, in order. A tile may occur
// several times. `count`: at least 1; `tile_count`: at most 2^24.
SPILLWAY_API spillway_status spillway_schedule_create(const uint32_t* uses, size_t count,
                                                      uint32_t tile_count,
                                                      spillway_schedule** schedule);
// Frees the schedule.
SPILLWAY_API spillway_status spillway_schedule_destroy(spillway_schedule* schedule);

// Returns the number of uses from `position` to the tile's next use: 0 if that is at `position`,
// SPILLWAY_NEVER if the step does not use it.
SPILLWAY_API spillway_status spillway_schedule_distance_to_next_use(spillway_schedule* schedule,
                                                                    size_t position, uint32_t tile,
                                                                    uint64_t* distance);
// Returns the candidate with the farthest next use. SPILLWAY_MISUSE if there is none.
SPILLWAY_API spillway_status spillway_schedule_farthest_next_use(spillway_schedule* schedule,
                                                                 size_t position,
                                                                 const uint32_t* candidates,
                                                                 size_t count, uint32_t* tile);
// Writes the next distinct tiles from `position` on, in order, into `tiles`, and their number into
// `count`: `capacity`, or fewer if the step uses fewer.
SPILLWAY_API spillway_status spillway_schedule_upcoming(spillway_schedule* schedule,
                                                        size_t position, size_t capacity,
                                                        uint32_t* tiles, size_t* count);

// Chooses the tiles to keep in memory for good if `capacity_elements` fit: those most used first,
// evenly spread over the step among equals. Sets `resident[tile]` to 1 for these and to 0 for the
// others. Both arrays have `tile_count` entries, as many as the schedule has tiles.
SPILLWAY_API spillway_status spillway_choose_resident(spillway_schedule* schedule,
                                                      const uint64_t* tile_elements,
                                                      uint32_t tile_count,
                                                      uint64_t capacity_elements,
                                                      uint8_t* resident);

#ifdef __cplusplus
}
#endif
