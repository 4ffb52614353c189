// Copies a file with several requests in flight, from C11:
//
//   copy_in_c FROM TO     (TO must not exist)
#include <spillway/spillway.h>
#include <stdio.h>

enum { kBuffers = 8, kBufferBytes = 4 << 20 };

// One buffer on its way: read from one file, then written to the other.
struct slot {
  spillway_lease* lease;
  spillway_request* request;
  uint64_t offset;
  size_t size_bytes;
};

struct copy {
  spillway_engine* engine;
  spillway_pool* pool;
  spillway_file* from;
  spillway_file* to;
  uint64_t size_bytes;
  struct slot slots[kBuffers];
};

static spillway_status start(struct copy* copy, struct slot* slot, int write) {
  const spillway_io io = {.size = sizeof io,
                          .file = write ? copy->to : copy->from,
                          .offset = slot->offset,
                          .size_bytes = slot->size_bytes,
                          .lease = slot->lease};
  return write ? spillway_write(copy->engine, &io, &slot->request)
               : spillway_read(copy->engine, &io, &slot->request);
}

static spillway_status wait_for(struct slot* slot) {
  spillway_request* const request = slot->request;
  slot->request = NULL;
  return request == NULL ? SPILLWAY_OK : spillway_wait(request, -1, NULL);
}

static spillway_status open_all(struct copy* copy, const char* from, const char* to) {
  const spillway_pool_options pool = {
      .size = sizeof pool, .buffer_bytes = kBufferBytes, .buffer_count = kBuffers, .name = "copy"};
  spillway_file_info info = {.size = sizeof info};
  spillway_status status = spillway_engine_create(NULL, &copy->engine);
  if (!status) status = spillway_pool_create(copy->engine, &pool, &copy->pool);
  if (!status) status = spillway_file_open(from, NULL, &copy->from);
  if (!status) status = spillway_file_get_info(copy->from, &info);
  copy->size_bytes = info.size_bytes;
  const spillway_create_options created = {.size = sizeof created, .size_bytes = info.size_bytes};
  if (!status) status = spillway_file_create(to, &created, &copy->to);
  for (int i = 0; !status && i < kBuffers; ++i) {
    status = spillway_lease_acquire(copy->pool, -1, &copy->slots[i].lease);
  }
  return status;
}

// Rounds of reads, each followed by its write as soon as it is there.
static spillway_status run(struct copy* copy) {
  spillway_status status = SPILLWAY_OK;
  for (uint64_t at = 0; !status && at < copy->size_bytes;) {
    for (int i = 0; !status && i < kBuffers; ++i) {
      struct slot* const slot = &copy->slots[i];
      status = wait_for(slot);  // its last write
      const uint64_t left = copy->size_bytes - at;
      slot->offset = at;
      slot->size_bytes = left < kBufferBytes ? left : kBufferBytes;
      at += slot->size_bytes;
      if (!status && slot->size_bytes > 0) status = start(copy, slot, 0);
    }
    for (int i = 0; !status && i < kBuffers; ++i) {
      struct slot* const slot = &copy->slots[i];
      if (slot->request == NULL) continue;
      status = wait_for(slot);
      if (!status) status = start(copy, slot, 1);
    }
  }
  for (int i = 0; !status && i < kBuffers; ++i) status = wait_for(&copy->slots[i]);
  return status ? status : spillway_file_sync(copy->to);
}

static void close_all(struct copy* copy) {
  for (int i = 0; i < kBuffers; ++i) {
    wait_for(&copy->slots[i]);
    if (copy->slots[i].lease != NULL) spillway_lease_release(copy->slots[i].lease);
  }
  if (copy->to != NULL) spillway_file_close(copy->to);
  if (copy->from != NULL) spillway_file_close(copy->from);
  if (copy->pool != NULL) spillway_pool_destroy(copy->pool);
  if (copy->engine != NULL) spillway_engine_destroy(copy->engine);
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: copy_in_c FROM TO\n");
    return 2;
  }
  struct copy copy = {0};
  spillway_status status = open_all(&copy, argv[1], argv[2]);
  if (!status) status = run(&copy);
  // Before the next call that may fail.
  if (status) fprintf(stderr, "copy_in_c: %s\n", spillway_last_error()->message);
  close_all(&copy);
  return status ? 1 : 0;
}
