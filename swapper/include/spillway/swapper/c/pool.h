// Part of <spillway/spillway.h>: pools of equal page-locked buffers, and leases on them.
#pragma once

#include <spillway/swapper/c/engine.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct spillway_pool spillway_pool;
// One buffer of a pool. While a request uses it, every call on it returns SPILLWAY_IN_USE.
typedef struct spillway_lease spillway_lease;

// Zero is the default of every field except `size`, `buffer_bytes` and `buffer_count`.
typedef struct spillway_pool_options {
  size_t size;           // sizeof(spillway_pool_options)
  size_t buffer_bytes;   // of each; rounded up to a multiple of 4096
  size_t buffer_count;   // allocated at once
  const char* name;      // for messages; may be NULL
  int32_t huge_pages;    // spillway_policy
  int32_t lock;          // spillway_policy: mlock
  int32_t registration;  // spillway_policy: with io_uring, which then pins no pages per transfer
  spillway_log log;      // the policies that were not met; NULL: silent
  void* log_context;
} spillway_pool_options;

// Allocates the buffers, after a check against the limits of the process (SPILLWAY_NO_MEMORY with
// the arithmetic). `engine` may be NULL: the memory is then not registered.
SPILLWAY_API spillway_status spillway_pool_create(spillway_engine* engine,
                                                  const spillway_pool_options* options,
                                                  spillway_pool** pool);
// Frees the buffers. SPILLWAY_IN_USE while a lease or a running stream uses the pool.
SPILLWAY_API spillway_status spillway_pool_destroy(spillway_pool* pool);
// Returns the number of buffers that are free now.
SPILLWAY_API spillway_status spillway_pool_available(spillway_pool* pool, size_t* count);

// Waits until a buffer is free; SPILLWAY_WAIT_TIMEOUT after `timeout_ms`. 0: does not wait;
// negative: waits for ever.
SPILLWAY_API spillway_status spillway_lease_acquire(spillway_pool* pool, int64_t timeout_ms,
                                                    spillway_lease** lease);
// Returns the lease's memory, valid until the lease is released. `capacity_bytes` may be NULL.
SPILLWAY_API spillway_status spillway_lease_memory(spillway_lease* lease, void** memory,
                                                   size_t* capacity_bytes);
// Returns the buffer to the pool.
SPILLWAY_API spillway_status spillway_lease_release(spillway_lease* lease);

#ifdef __cplusplus
}
#endif
