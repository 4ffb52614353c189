// Part of <spillway/spillway.h>: a tile stream, which reads ahead, computes and writes behind over
// the tiles of stores. The buffers of the pools bound the memory, whatever the number of tiles.
#pragma once

#include <spillway/swapper/c/pool.h>
#include <spillway/swapper/c/store.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum spillway_access {
  SPILLWAY_ACCESS_READ = 1,
  SPILLWAY_ACCESS_WRITE = 2,
  SPILLWAY_ACCESS_READ_WRITE = 3
} spillway_access;

// The planes of each tile that the compute function receives from one store.
typedef struct spillway_part {
  spillway_store* store;
  spillway_pool* pool;   // lends the buffers; they must hold the planes
  int32_t access;        // spillway_access
  uint32_t first_plane;  // of the planes to move
  uint32_t plane_count;  // 0: all from the first on
} spillway_part;

// Zero is the default of every field except `size` and the parts.
typedef struct spillway_stream_options {
  size_t size;  // sizeof(spillway_stream_options)
  const spillway_part* parts;
  uint32_t part_count;    // at least 1; the stores have equally many tiles
  uint32_t tile_count;    // of `tiles`
  const uint32_t* tiles;  // in this order; NULL: all, from the first to the last
} spillway_stream_options;

// The memory of one part, valid during one call.
typedef struct spillway_part_view {
  uint64_t elements;  // of the tile
  uint32_t plane_count;
  void* const* planes;  // the first element of each
} spillway_part_view;

// Called for each tile, on the thread that runs the stream. A result other than 0 ends the stream.
typedef int (*spillway_compute)(void* context, uint32_t tile, const spillway_part_view* parts);

typedef struct spillway_stream_stats {
  size_t size;                // sizeof(spillway_stream_stats), set by the caller
  double compute_seconds;     // in the compute function
  double read_wait_seconds;   // the compute function waited for a read
  double write_wait_seconds;  // it waited for a buffer, or for the last writes
} spillway_stream_stats;

// Runs over all tiles; returns when all writes are in their store. A failure stops the stream.
// SPILLWAY_CANCELLED: the compute function did not return 0. SPILLWAY_MISUSE: a part does not fit
// the store or the pool, or a plane is written and used twice. `stats` may be NULL. Two concurrent
// streams must not use the same tile.
SPILLWAY_API spillway_status spillway_stream_run(const spillway_stream_options* options,
                                                 spillway_compute compute, void* context,
                                                 spillway_stream_stats* stats);

#ifdef __cplusplus
}
#endif
