// Of <spillway/spillway.h>: reads and writes, many at a time.
#pragma once

#include <spillway/swapper/c/engine.h>
#include <spillway/swapper/c/file.h>
#include <spillway/swapper/c/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct spillway_request spillway_request;

// What is moved between which bytes of a file and which memory: a lease's, or the caller's own.
typedef struct spillway_io {
  size_t size;  // sizeof(spillway_io)
  spillway_file* file;
  uint64_t offset;        // bytes from the start of the file
  size_t size_bytes;      // any length, any alignment
  spillway_lease* lease;  // nobody else's until the request was waited for ...
  size_t lease_offset;    // ... bytes from the start of its memory;
  void* memory;           // or `size_bytes` of the caller's, which must stay until then
  int32_t urgent;         // goes before all that is not: somebody waits for it
  uint32_t deadline_ms;   // from now on; 0: none. With a lease only, which then loses its memory
} spillway_io;

// Starts to move bytes of the file into memory. Blocks only while 1024 requests are pending.
// Every request must be waited for, also a cancelled one.
SPILLWAY_API spillway_status spillway_read(spillway_engine* engine, const spillway_io* io,
                                           spillway_request** request);
// Starts to move bytes of memory into the file. A write past its end extends it.
SPILLWAY_API spillway_status spillway_write(spillway_engine* engine, const spillway_io* io,
                                            spillway_request** request);

// Whether spillway_wait() would return at once. Does not block.
SPILLWAY_API spillway_status spillway_request_done(spillway_request* request, int* done);
// Waits for the end (`timeout_ms` negative: for ever), tells how the request ended and how many
// bytes it moved (`moved_bytes` may be NULL), and takes the handle back. SPILLWAY_WAIT_TIMEOUT: not
// yet, the handle is still good. SPILLWAY_DEADLINE: the lease has lost its memory, which goes back
// to the pool when the kernel lets go of it, and is only to be released.
SPILLWAY_API spillway_status spillway_wait(spillway_request* request, int64_t timeout_ms,
                                           size_t* moved_bytes);
// Asks for an early end, which is then to be waited for: with SPILLWAY_CANCELLED, or as if nothing
// had been said where that came too late. Does not block; also while another thread waits.
SPILLWAY_API spillway_status spillway_cancel(spillway_request* request);

#ifdef __cplusplus
}
#endif
