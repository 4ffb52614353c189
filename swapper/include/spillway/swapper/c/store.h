// Part of <spillway/spillway.h>: a tile store, for more data than fits into memory. It creates its
// files and removes them at its end, and verifies every byte that it reads.
//
// A tile is a run of elements with one or more planes: arrays that belong to the same elements.
#pragma once

#include <spillway/swapper/c/engine.h>
#include <spillway/swapper/c/lock.h>
#include <spillway/swapper/c/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct spillway_store spillway_store;

typedef struct spillway_plane {
  const char* name;             // for messages
  uint32_t bytes_per_block;     // bytes that ...
  uint32_t elements_per_block;  // ... this many elements take; 0 is taken as 1
} spillway_plane;

// Zero is the default of every field except `size`, the planes, the elements and the directories.
typedef struct spillway_store_options {
  size_t size;                     // sizeof(spillway_store_options)
  const spillway_plane* planes;    // of every tile
  uint32_t plane_count;            // at least 1
  uint32_t directory_count;        // at least 1
  const char* const* directories;  // existing ones, on which the tiles are spread
  uint64_t element_count;          // of all tiles together
  uint64_t tile_elements;          // of each tile; the last one takes the rest
  const char* name;                // prefix of the files; default "tiles"; unique in a directory
  int32_t direct;                  // spillway_policy of direct I/O
  spillway_log log;                // leftovers removed, no direct I/O; NULL: silent
  void* log_context;
  // Locks that the program holds. The store locks its other directories itself.
  spillway_lock* const* locks;
  size_t lock_count;
} spillway_store_options;

typedef struct spillway_store_info {
  size_t size;  // sizeof(spillway_store_info), set by the caller
  uint32_t tile_count;
  uint32_t plane_count;
  uint64_t tile_bytes;     // size of a buffer that holds all planes of any tile
  uint64_t storage_bytes;  // in the directories
  uint64_t read_bytes;
  uint64_t written_bytes;
} spillway_store_info;

// Preallocates all files. SPILLWAY_NO_SPACE, with the arithmetic, before a byte is written;
// SPILLWAY_BUSY if another job uses a directory, or another store of this process has the same
// `name` in one. Stores of one process may use the same directories.
SPILLWAY_API spillway_status spillway_store_create(spillway_engine* engine,
                                                   const spillway_store_options* options,
                                                   spillway_store** store);
// Removes the files. SPILLWAY_IN_USE while a stream uses the store, or a request on it exists.
SPILLWAY_API spillway_status spillway_store_destroy(spillway_store* store);
// Returns the store's size and its counters.
SPILLWAY_API spillway_status spillway_store_get_info(spillway_store* store,
                                                     spillway_store_info* info);
// Returns the number of elements of one tile.
SPILLWAY_API spillway_status spillway_store_tile_elements(spillway_store* store, uint32_t tile,
                                                          uint64_t* elements);
// Returns the start of a plane, in bytes from the start of a buffer with all planes of the tile.
SPILLWAY_API spillway_status spillway_store_plane_offset(spillway_store* store, uint32_t tile,
                                                         uint32_t plane, size_t* offset);

// Moves all planes of one tile into or out of a lease, and blocks until it is done (at most 120 s,
// then SPILLWAY_DEADLINE). SPILLWAY_IN_USE while another transfer of the tile is in flight. Reading
// a tile that was never written is SPILLWAY_INVALID. After a failure the lease has other memory:
// get its address again (SPILLWAY_IN_USE: it has no memory any more and can only be released).
SPILLWAY_API spillway_status spillway_store_read(spillway_store* store, uint32_t tile,
                                                 spillway_lease* lease);
SPILLWAY_API spillway_status spillway_store_write(spillway_store* store, uint32_t tile,
                                                  spillway_lease* lease);

#ifdef __cplusplus
}
#endif
