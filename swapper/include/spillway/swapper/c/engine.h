// Part of <spillway/spillway.h>: the engine, which moves bytes between files and memory.
#pragma once

#include <spillway/swapper/c/error.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct spillway_engine spillway_engine;

typedef enum spillway_backend {
  SPILLWAY_BACKEND_AUTO = 0,  // io_uring where the machine allows it, else threads
  SPILLWAY_BACKEND_IO_URING = 1,
  SPILLWAY_BACKEND_THREADS = 2
} spillway_backend;

// Zero is the default of every field except `size`.
typedef struct spillway_engine_options {
  size_t size;                // sizeof(spillway_engine_options)
  int32_t backend;            // spillway_backend
  uint32_t block_size_bytes;  // a multiple of 4096; default 1 MiB
  uint32_t queue_depth;       // operations in flight per thread, 1 to 4096; default 32
  uint32_t thread_count;      // 1 to 64; default 1
  int32_t single_submit;      // one system call per operation
  uint32_t drain_timeout_ms;  // how long the destructor waits for a dead device; default 10 s
  spillway_log log;           // which engine and why, limits exceeded; NULL: silent
  void* log_context;
  int32_t measure_latency;  // for spillway_engine_get_latency(); two clock reads per operation
  int32_t reserved;         // 0
} spillway_engine_options;

typedef struct spillway_engine_stats {
  size_t size;  // sizeof(spillway_engine_stats), set by the caller
  uint64_t read_bytes;
  uint64_t written_bytes;
  uint64_t read_operations;
  uint64_t write_operations;
  uint64_t short_transfers;
  uint64_t retries;
  uint64_t system_calls;
} spillway_engine_stats;

typedef enum spillway_direction {
  SPILLWAY_DIRECTION_READ = 0,
  SPILLWAY_DIRECTION_WRITE = 1
} spillway_direction;

// How long operations (of at most `block_size_bytes` each) took, from submission to completion. A
// percentile is the duration that this share of them did not exceed, up to 6.25% too high; the mean
// is true to 3.2%.
typedef struct spillway_latency {
  size_t size;     // sizeof(spillway_latency), set by the caller
  uint64_t count;  // of operations; if 0, all that follow are 0
  uint64_t mean_ns;
  uint64_t p50_ns;
  uint64_t p90_ns;
  uint64_t p99_ns;
  uint64_t p99_9_ns;
  uint64_t max_ns;
} spillway_latency;

// Starts the threads. `options` may be NULL, for all defaults.
SPILLWAY_API spillway_status spillway_engine_create(const spillway_engine_options* options,
                                                    spillway_engine** engine);
// Stops the threads. Blocks until the kernel has returned the memory of cancelled operations.
// SPILLWAY_IN_USE while a pool, a store or a request of the engine exists.
SPILLWAY_API spillway_status spillway_engine_destroy(spillway_engine* engine);

// Returns "io_uring", or "threads: " and why not io_uring. Valid until the engine is destroyed.
SPILLWAY_API spillway_status spillway_engine_choice(spillway_engine* engine, const char** choice);
// Returns the counters. Does not block.
SPILLWAY_API spillway_status spillway_engine_get_stats(spillway_engine* engine,
                                                       spillway_engine_stats* stats);
// Returns the latency of the operations so far. `direction`: a spillway_direction. Does not block.
// SPILLWAY_UNSUPPORTED if the engine was made without `measure_latency`.
SPILLWAY_API spillway_status spillway_engine_get_latency(spillway_engine* engine, int32_t direction,
                                                         spillway_latency* latency);

#ifdef __cplusplus
}
#endif
