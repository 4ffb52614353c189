// Part of <spillway/spillway.h>: files opened for direct I/O. Every call here blocks.
#pragma once

#include <spillway/swapper/c/error.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct spillway_file spillway_file;

// Zero is the default of every field except `size`.
typedef struct spillway_create_options {
  size_t size;          // sizeof(spillway_create_options)
  uint64_t size_bytes;  // preallocated, so that no later write meets a full disk
  int32_t overwrite;    // 0: an existing file is SPILLWAY_BUSY and stays as it is
  int32_t direct;       // spillway_policy of direct I/O
} spillway_create_options;

// Zero is the default of every field except `size`.
typedef struct spillway_open_options {
  size_t size;       // sizeof(spillway_open_options)
  int32_t writable;  // 0: for reading
  int32_t direct;    // spillway_policy of direct I/O
} spillway_open_options;

typedef struct spillway_file_info {
  size_t size;  // sizeof(spillway_file_info), set by the caller
  uint64_t size_bytes;
  // Multiples of these, in bytes, move without a copy; 1 if not direct. All others work too.
  uint32_t memory_alignment;
  uint32_t offset_alignment;
  int32_t direct;
} spillway_file_info;

// Creates a file of exactly `size_bytes`. After a failure no file is left.
SPILLWAY_API spillway_status spillway_file_create(const char* path,
                                                  const spillway_create_options* options,
                                                  spillway_file** file);
// Opens an existing file.
SPILLWAY_API spillway_status spillway_file_open(const char* path,
                                                const spillway_open_options* options,
                                                spillway_file** file);
// Closes the file. SPILLWAY_IN_USE while a request on it was not waited for.
SPILLWAY_API spillway_status spillway_file_close(spillway_file* file);

// Returns the present size and the way it is opened.
SPILLWAY_API spillway_status spillway_file_get_info(spillway_file* file, spillway_file_info* info);
// Calls fdatasync. After a failure the contents are unknown.
SPILLWAY_API spillway_status spillway_file_sync(spillway_file* file);
// Unlinks the path. The handle still works and must still be closed.
SPILLWAY_API spillway_status spillway_file_remove(spillway_file* file);

#ifdef __cplusplus
}
#endif
