// Part of <spillway/spillway.h>: striped files, each one logical file of a fixed size over the
// drives of several directories. Drives get bytes in proportion to their speed.
#pragma once

#include <spillway/swapper/c/request.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct spillway_striped spillway_striped;

// Zero is the default of every field except `size`, the engines, the directories and the name.
typedef struct spillway_striped_options {
  size_t size;                      // sizeof(spillway_striped_options)
  spillway_engine* const* engines;  // one for all directories, or one for each
  const char* const* directories;   // 1 to 64 different ones; the order matters
  uint32_t engine_count;            // 1, or directory_count
  uint32_t directory_count;         // at least 1
  const char* name;                 // of the member file in each directory
  int32_t direct;                   // spillway_policy of direct I/O
  int32_t writable;                 // of an open file; a created one is always writable
  // Of a file that is created; they must be 0 to open one, which knows them.
  uint64_t size_bytes;    // of the logical file, 1 byte to 1 EiB; preallocated
  uint32_t stripe_bytes;  // a multiple of 4096, at most 1 GiB; default 1 MiB
  uint32_t speed_count;   // directory_count; 0: the speeds are measured, a second per directory
  const double* speeds;   // of each directory, in any unit
} spillway_striped_options;

typedef struct spillway_striped_info {
  size_t size;  // sizeof(spillway_striped_info), set by the caller
  uint64_t size_bytes;
  uint32_t stripe_bytes;
  uint32_t member_count;  // one for each directory, in order
} spillway_striped_info;

typedef struct spillway_striped_member {
  size_t size;            // sizeof(spillway_striped_member), set by the caller
  const char* path;       // valid until the striped file is closed
  uint64_t weight;        // its share of the stripes, out of the sum of all weights
  uint64_t stored_bytes;  // space for its stripes
  uint64_t read_bytes;    // through this handle
  uint64_t written_bytes;
} spillway_striped_member;

// Creates the member files. Blocks. SPILLWAY_NO_SPACE, with the arithmetic, before a byte is
// written; SPILLWAY_BUSY if a member exists. After a failure no file is left.
SPILLWAY_API spillway_status spillway_striped_create(const spillway_striped_options* options,
                                                     spillway_striped** striped);
// Opens existing members. Blocks. SPILLWAY_NOT_FOUND, SPILLWAY_INVALID or SPILLWAY_CORRUPT with the
// path of the bad member.
SPILLWAY_API spillway_status spillway_striped_open(const spillway_striped_options* options,
                                                   spillway_striped** striped);
// Closes the members. SPILLWAY_IN_USE while a request on it was not waited for.
SPILLWAY_API spillway_status spillway_striped_close(spillway_striped* striped);

// Start a read or a write, as spillway_read() and spillway_write() do. The `file` of `io` must be
// NULL, `offset` is that in the logical file. An error has the path of the member; its offset,
// wanted and got are those of the logical request. Past the end of the file the wait returns
// SPILLWAY_INVALID, and nothing is moved.
SPILLWAY_API spillway_status spillway_striped_read(spillway_striped* striped, const spillway_io* io,
                                                   spillway_request** request);
SPILLWAY_API spillway_status spillway_striped_write(spillway_striped* striped,
                                                    const spillway_io* io,
                                                    spillway_request** request);

// Returns the size and the number of members. Does not block.
SPILLWAY_API spillway_status spillway_striped_get_info(spillway_striped* striped,
                                                       spillway_striped_info* info);
// Returns the counters of one member. Does not block. SPILLWAY_MISUSE if there is no such member.
SPILLWAY_API spillway_status spillway_striped_get_member(spillway_striped* striped, uint32_t member,
                                                         spillway_striped_member* result);
// Calls fdatasync on every member. Blocks. After a failure the contents are unknown.
SPILLWAY_API spillway_status spillway_striped_sync(spillway_striped* striped);
// Unlinks every member, even if others fail; returns the first failure. Blocks. The handle still
// works and must still be closed.
SPILLWAY_API spillway_status spillway_striped_remove(spillway_striped* striped);

#ifdef __cplusplus
}
#endif
