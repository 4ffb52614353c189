#include "io_memory.h"

namespace spillway::c {
namespace {

spillway_status check(const spillway_io& io, const char* what) {
  if (io.offset > INT64_MAX || io.size_bytes > INT64_MAX - io.offset) {
    return failed(SPILLWAY_MISUSE, what, "no file has bytes at offset + size_bytes");
  }
  if (io.lease != nullptr && io.memory != nullptr) {
    return failed(SPILLWAY_MISUSE, what, "give a lease or memory, not both");
  }
  if (io.lease == nullptr && io.memory == nullptr && io.size_bytes > 0) {
    return failed(SPILLWAY_MISUSE, what, "there is neither a lease nor memory");
  }
  if (io.memory != nullptr && io.deadline_ms != 0) {
    return failed(SPILLWAY_MISUSE, what,
                  "a deadline needs a lease: the kernel may still write into memory of your own");
  }
  return SPILLWAY_OK;
}

}  // namespace

tl::expected<IoMemory, spillway_status> IoMemory::of(const spillway_io& io, const char* what) {
  if (auto status = check(io, what)) return tl::unexpected(status);
  IoMemory memory;
  if (io.lease == nullptr) {
    memory.own_ = {static_cast<std::byte*>(io.memory), io.size_bytes};
    return memory;
  }
  auto lease = find<LeaseObject>(io.lease, what);
  if (!lease) return tl::unexpected(lease.error());
  const std::size_t capacity = (*lease)->capacity;
  if (io.lease_offset > capacity || io.size_bytes > capacity - io.lease_offset) {
    return tl::unexpected(failed(SPILLWAY_MISUSE, what,
                                 std::to_string(io.size_bytes) + " bytes at " +
                                     std::to_string(io.lease_offset) +
                                     " do not fit into a lease of " + std::to_string(capacity)));
  }
  memory.lease_ = Use(std::move(*lease));
  memory.offset_ = io.lease_offset;
  return memory;
}

tl::expected<aio::Buffer, spillway_status> IoMemory::take(const char* what) {
  if (lease_) return take_buffer(*lease_.get(), what);
  return aio::Buffer::borrow(own_);
}

spillway_status IoMemory::put_back(aio::Completion completion, std::size_t* moved) {
  if (lease_) c::put_back(*lease_.get(), pinned_pool::Lease(std::move(completion.buffer)));
  if (!completion.transferred) {
    if (moved != nullptr) *moved = completion.transferred.error().got;
    return failed(completion.transferred.error());
  }
  if (moved != nullptr) *moved = *completion.transferred;
  return SPILLWAY_OK;
}

}  // namespace spillway::c
