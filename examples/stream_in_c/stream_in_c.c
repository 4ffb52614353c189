// Streams a data set that is larger than its buffers, from C11: writes numbers, squares them in
// place, checks every one. Then looks some up, with several reads in flight.
//
//   stream_in_c DIRECTORY [MILLIONS]     (64 million of 8 bytes through 32 MiB; nothing is left)
#include <spillway/spillway.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { kTileElements = 1 << 20, kBuffers = 4 };

static int fill(void* context, uint32_t tile, const spillway_part_view* part) {
  (void)context;
  uint64_t* numbers = part->planes[0];
  for (uint64_t i = 0; i < part->elements; ++i) numbers[i] = (uint64_t)tile * kTileElements + i;
  return 0;
}

static int square(void* context, uint32_t tile, const spillway_part_view* part) {
  (void)context, (void)tile;
  uint64_t* numbers = part->planes[0];
  for (uint64_t i = 0; i < part->elements; ++i) numbers[i] *= numbers[i];
  return 0;
}

// `context`: how many numbers are wrong.
static int check(void* context, uint32_t tile, const spillway_part_view* part) {
  const uint64_t* numbers = part->planes[0];
  for (uint64_t i = 0; i < part->elements; ++i) {
    const uint64_t n = (uint64_t)tile * kTileElements + i;
    if (numbers[i] != n * n) ++*(uint64_t*)context;
  }
  return 0;
}

static spillway_status stream(spillway_store* store, spillway_pool* pool, uint64_t* wrong) {
  const struct {
    int32_t access;
    spillway_compute compute;
  } passes[] = {{SPILLWAY_ACCESS_WRITE, fill},
                {SPILLWAY_ACCESS_READ_WRITE, square},
                {SPILLWAY_ACCESS_READ, check}};
  for (size_t i = 0; i < sizeof passes / sizeof *passes; ++i) {
    const spillway_part part = {.store = store, .pool = pool, .access = passes[i].access};
    const spillway_stream_options options = {
        .size = sizeof options, .parts = &part, .part_count = 1};
    spillway_status status = spillway_stream_run(&options, passes[i].compute, wrong, NULL);
    if (status != SPILLWAY_OK) return status;
  }
  return SPILLWAY_OK;
}

// Reads of single tiles, each into a buffer of its own.
typedef struct look_ups {
  spillway_store* store;
  uint32_t next_tile;
  uint32_t tile_count;
  uint32_t tiles[kBuffers];
  spillway_lease* leases[kBuffers];
  spillway_request* requests[kBuffers];  // NULL: no read is in flight
} look_ups;

// Starts to read the next tile, if there is one: every third.
static spillway_status start_next(look_ups* l, size_t i) {
  if (l->next_tile >= l->tile_count) return SPILLWAY_OK;
  const spillway_tile_io io = {.size = sizeof io, .tile = l->next_tile, .lease = l->leases[i]};
  l->tiles[i] = l->next_tile;
  l->next_tile += 3;
  return spillway_store_start_read(l->store, &io, &l->requests[i]);
}

// Waits for whichever tile arrives first, checks its first number, and starts the next read.
static spillway_status take_one(look_ups* l, uint64_t* wrong) {
  size_t i = 0;
  spillway_status status = spillway_wait_any(l->requests, kBuffers, -1, &i);
  if (status != SPILLWAY_OK) return status;
  status = spillway_wait(l->requests[i], -1, NULL);
  l->requests[i] = NULL;
  void* memory = NULL;
  if (status == SPILLWAY_OK) status = spillway_lease_memory(l->leases[i], &memory, NULL);
  if (status != SPILLWAY_OK) return status;
  const uint64_t n = (uint64_t)l->tiles[i] * kTileElements;
  if (*(const uint64_t*)memory != n * n) ++*wrong;
  return start_next(l, i);
}

static spillway_status look_up(spillway_store* store, spillway_pool* pool, uint64_t* wrong) {
  spillway_store_info info = {.size = sizeof info};
  spillway_status status = spillway_store_get_info(store, &info);
  look_ups l = {.store = store, .tile_count = info.tile_count};
  for (size_t i = 0; i < kBuffers && status == SPILLWAY_OK; ++i) {
    status = spillway_lease_acquire(pool, -1, &l.leases[i]);
    if (status == SPILLWAY_OK) status = start_next(&l, i);
  }
  for (uint32_t taken = 0; taken < l.tile_count && status == SPILLWAY_OK; taken += 3) {
    status = take_one(&l, wrong);
  }
  for (size_t i = 0; i < kBuffers; ++i) {
    if (l.requests[i] != NULL) spillway_wait(l.requests[i], -1, NULL);  // after a failure
    if (l.leases[i] != NULL) spillway_lease_release(l.leases[i]);
  }
  return status;
}

// What was made is destroyed on every way out, the last first.
static spillway_status run(const char* directory, uint64_t elements, uint64_t* wrong) {
  const spillway_plane plane = {.name = "number", .bytes_per_block = sizeof(uint64_t)};
  const spillway_store_options store_options = {.size = sizeof store_options,
                                                .planes = &plane,
                                                .plane_count = 1,
                                                .directories = &directory,
                                                .directory_count = 1,
                                                .element_count = elements,
                                                .tile_elements = kTileElements};
  const spillway_pool_options pool_options = {.size = sizeof pool_options,
                                              .buffer_bytes = kTileElements * sizeof(uint64_t),
                                              .buffer_count = kBuffers};
  spillway_engine* engine = NULL;
  spillway_store* store = NULL;
  spillway_pool* pool = NULL;
  spillway_status status = spillway_engine_create(NULL, &engine);
  if (status == SPILLWAY_OK) status = spillway_store_create(engine, &store_options, &store);
  if (status == SPILLWAY_OK) status = spillway_pool_create(engine, &pool_options, &pool);
  if (status == SPILLWAY_OK) status = stream(store, pool, wrong);
  if (status == SPILLWAY_OK) status = look_up(store, pool, wrong);
  if (status != SPILLWAY_OK) fprintf(stderr, "stream_in_c: %s\n", spillway_last_error()->message);
  if (pool != NULL) spillway_pool_destroy(pool);
  if (store != NULL) spillway_store_destroy(store);
  if (engine != NULL) spillway_engine_destroy(engine);
  return status;
}

int main(int argc, char** argv) {
  const uint64_t millions = argc > 2 ? strtoull(argv[2], NULL, 10) : 64;
  if (argc < 2 || argc > 3 || millions == 0 || millions > 1000000) {
    fprintf(stderr, "usage: stream_in_c DIRECTORY [MILLIONS, 1 to 1000000]\n");
    return 2;
  }
  uint64_t wrong = 0;
  if (run(argv[1], millions * 1000000, &wrong) != SPILLWAY_OK) return 1;
  printf("%" PRIu64 " million squares through %zu MiB: %" PRIu64 " wrong\n", millions,
         kBuffers * kTileElements * sizeof(uint64_t) >> 20, wrong);
  return wrong == 0 ? 0 : 1;
}
