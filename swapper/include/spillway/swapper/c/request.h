// Part of <spillway/spillway.h>: reads and writes, many at a time; and the handle of a transfer in
// flight, be it of a file, a striped file or a tile.
#pragma once

#include <spillway/swapper/c/engine.h>
#include <spillway/swapper/c/file.h>
#include <spillway/swapper/c/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct spillway_request spillway_request;

// A transfer between a file and memory: either a lease's or the caller's own.
typedef struct spillway_io {
  size_t size;  // sizeof(spillway_io)
  spillway_file* file;
  uint64_t offset;        // bytes from the start of the file
  size_t size_bytes;      // any length, any alignment
  spillway_lease* lease;  // the request owns it until it was waited for; NULL: use `memory`
  size_t lease_offset;    // bytes from the start of the lease's memory
  void* memory;           // `size_bytes` of the caller's; must live until the request ends
  int32_t urgent;         // goes before all requests that are not urgent
  uint32_t deadline_ms;   // from now; 0: none. Only with a lease, which then loses its memory
} spillway_io;

// Starts a read from the file into memory. Blocks only while 1024 requests are pending. Every
// request must be waited for, a cancelled one too.
SPILLWAY_API spillway_status spillway_read(spillway_engine* engine, const spillway_io* io,
                                           spillway_request** request);
// Starts a write from memory into the file. A write past its end extends it.
SPILLWAY_API spillway_status spillway_write(spillway_engine* engine, const spillway_io* io,
                                            spillway_request** request);

// Moves the bytes and returns when that is done, with the outcome of spillway_wait(). Cheaper for
// one request at a time: while the engine is idle, the calling thread moves whole pages of at most
// one block itself. `moved_bytes` may be NULL. Block.
SPILLWAY_API spillway_status spillway_read_and_wait(spillway_engine* engine, const spillway_io* io,
                                                    size_t* moved_bytes);
SPILLWAY_API spillway_status spillway_write_and_wait(spillway_engine* engine, const spillway_io* io,
                                                     size_t* moved_bytes);

// Tells whether spillway_wait() would return at once. Does not block.
SPILLWAY_API spillway_status spillway_request_done(spillway_request* request, int* done);
// Waits for the end of the request (`timeout_ms` negative: for ever), returns its outcome and the
// bytes it moved (`moved_bytes` may be NULL), and frees the handle. SPILLWAY_WAIT_TIMEOUT: not yet;
// the handle stays valid. SPILLWAY_DEADLINE: the lease has lost its memory and can only be
// released; the memory returns to the pool when the kernel is done with it.
SPILLWAY_API spillway_status spillway_wait(spillway_request* request, int64_t timeout_ms,
                                           size_t* moved_bytes);
// Waits until at least one of the requests is done, and returns the index of the first of these
// (`timeout_ms` negative: for ever; SPILLWAY_WAIT_TIMEOUT: none is done yet). Frees no handle:
// spillway_wait() does, and returns at once. The requests may be of several engines and kinds. NULL
// entries are skipped; SPILLWAY_MISUSE if all are.
SPILLWAY_API spillway_status spillway_wait_any(spillway_request* const* requests, size_t count,
                                               int64_t timeout_ms, size_t* index);
// Cancels the request, which must still be waited for: it ends with SPILLWAY_CANCELLED, or normally
// if it was too late. Does not block; another thread may be waiting. A tile write is abandoned, not
// undone: the wait returns SPILLWAY_CANCELLED at once, as after SPILLWAY_DEADLINE the lease has
// lost its memory, and the store completes the write by itself.
SPILLWAY_API spillway_status spillway_cancel(spillway_request* request);
// Makes the parts of the request that have not started urgent, because a thread now waits for it.
// Does not block. SPILLWAY_UNSUPPORTED, and nothing changes, for a tile write and a request on a
// striped file.
SPILLWAY_API spillway_status spillway_expedite(spillway_request* request);

#ifdef __cplusplus
}
#endif
