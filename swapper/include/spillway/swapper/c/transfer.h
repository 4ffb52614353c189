// Part of <spillway/spillway.h>: transfers between tiles and leases, many at a time.
#pragma once

#include <spillway/swapper/c/request.h>
#include <spillway/swapper/c/store.h>

#ifdef __cplusplus
extern "C" {
#endif

// A transfer between neighbouring planes of one tile and a lease. In the lease the first of these
// planes is at the start; spillway_store_plane_offset() of another one, less that of the first, is
// the start of the other.
typedef struct spillway_tile_io {
  size_t size;  // sizeof(spillway_tile_io)
  uint32_t tile;
  uint32_t first_plane;
  uint32_t plane_count;   // 0: all from the first on
  int32_t urgent;         // goes before all requests that are not urgent; of a read only
  spillway_lease* lease;  // the request owns it until it was waited for
} spillway_tile_io;

// Start a transfer, which must be waited for with spillway_wait(). Block only while 1024 requests
// of the engine are pending. A start of a write computes the checksums, a wait for a read compares
// them, on the calling thread. As after spillway_store_read(), a lease has other memory after a
// failed wait.
// SPILLWAY_IN_USE while another transfer of one of the planes was not waited for, or was abandoned
// and is still in flight. SPILLWAY_MISUSE: no such tile or planes, the planes do not fit into the
// lease, or a write is urgent. Not detected: a running stream that uses the tile.
SPILLWAY_API spillway_status spillway_store_start_read(spillway_store* store,
                                                       const spillway_tile_io* io,
                                                       spillway_request** request);
SPILLWAY_API spillway_status spillway_store_start_write(spillway_store* store,
                                                        const spillway_tile_io* io,
                                                        spillway_request** request);

#ifdef __cplusplus
}
#endif
