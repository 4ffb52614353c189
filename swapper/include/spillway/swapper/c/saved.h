// Part of <spillway/spillway.h>: tiles of a store that survive the process, in a directory of their
// own, and tiles that give their space back. C++'s <spillway/swapper/saved_tiles.h> has the
// details.
#pragma once

#include <spillway/swapper/c/pool.h>
#include <spillway/swapper/c/store.h>

#ifdef __cplusplus
extern "C" {
#endif

// Forgets the tile's bytes and returns their space to the filesystem (a hole in the file, if it has
// holes). Reading the tile is SPILLWAY_INVALID until it is written again; that write allocates the
// space first, and may be SPILLWAY_NO_SPACE. Blocks. SPILLWAY_IN_USE during a transfer of the tile.
SPILLWAY_API spillway_status spillway_store_free(spillway_store* store, uint32_t tile);

// Zero is the default of every field except `size`.
typedef struct spillway_save_options {
  size_t size;            // sizeof(spillway_save_options)
  const uint32_t* tiles;  // the tiles to save, each once; NULL: all that were written
  uint32_t tile_count;    // of `tiles`
  // Not 0: tiles with bytes are not written again, so no space is reserved for that. Writing one is
  // SPILLWAY_MISUSE then, until it was saved without this.
  int32_t read_only;
} spillway_save_options;

// Makes a new directory with the tiles, durably: hard links of the store's files, or copies where
// none are possible. It is there with all, or not at all, after a kill too. The store goes on, and
// what it writes later does not change what is saved; the next write of a tile must cover all its
// planes. Only the owner may read the files. `options` may be NULL. Blocks. SPILLWAY_BUSY if
// something has the name; SPILLWAY_NO_SPACE with the arithmetic; SPILLWAY_INVALID if a tile to save
// lacks bytes; SPILLWAY_IN_USE during a transfer or a stream.
SPILLWAY_API spillway_status spillway_store_save(spillway_store* store, const char* directory,
                                                 const spillway_save_options* options);

// A saved directory, open for reading. Any number of processes may open it.
typedef struct spillway_saved spillway_saved;

typedef struct spillway_saved_info {
  size_t size;          // sizeof(spillway_saved_info), set by the caller
  uint32_t tile_count;  // of the store, saved or not
  uint32_t plane_count;
  uint64_t tile_bytes;     // size of a buffer that holds all planes of any tile
  uint64_t storage_bytes;  // in the directory
  uint64_t read_bytes;
} spillway_saved_info;

// Opens a saved directory. Reads no tile yet. SPILLWAY_NOT_FOUND, SPILLWAY_CORRUPT (a damaged
// manifest, a segment of another size), SPILLWAY_INVALID (no saved directory), SPILLWAY_UNSUPPORTED
// (a later version, another byte order or checksum).
SPILLWAY_API spillway_status spillway_saved_open(spillway_engine* engine, const char* directory,
                                                 spillway_saved** saved);
// Leaves the directory as it is. SPILLWAY_IN_USE during a read.
SPILLWAY_API spillway_status spillway_saved_close(spillway_saved* saved);
// Returns the sizes and counters.
SPILLWAY_API spillway_status spillway_saved_get_info(spillway_saved* saved,
                                                     spillway_saved_info* info);
// Sets `contains` to 1 if the tile was saved, else to 0.
SPILLWAY_API spillway_status spillway_saved_contains(spillway_saved* saved, uint32_t tile,
                                                     int* contains);
// Returns the number of elements of one tile, saved or not.
SPILLWAY_API spillway_status spillway_saved_tile_elements(spillway_saved* saved, uint32_t tile,
                                                          uint64_t* elements);
// Reads all planes of one tile into a lease, verifies them, and blocks until that is done.
// SPILLWAY_INVALID if the tile was not saved, SPILLWAY_CORRUPT with file, tile, plane and offset.
// After a failure the lease has other memory, as after spillway_store_read.
SPILLWAY_API spillway_status spillway_saved_read(spillway_saved* saved, uint32_t tile,
                                                 spillway_lease* lease);

#ifdef __cplusplus
}
#endif
