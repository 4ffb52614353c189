// PendingRequest: one read or write from its submission to the end of its Ticket.
//
// Shared by the engine (until completion) and the Ticket (until waited for or dropped); the last of
// the two hands it back to its RequestPool, which keeps it for the next request.
#pragma once

#include <spillway/aio/engine.h>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace spillway::aio {

class RequestPool;

struct PendingRequest {
  // Set at submission. `data` is the first byte of the request inside `buffer`.
  Direction direction = Direction::kRead;
  const File* file = nullptr;
  std::uint64_t offset = 0;
  std::size_t size_bytes = 0;
  std::byte* data = nullptr;
  Buffer buffer;
  Engine::Callback callback;

  // Guarded by the WorkQueue.
  std::uint64_t cut_to = 0;       // file offset up to which it is cut into pieces
  std::uint32_t outstanding = 0;  // pieces cut and not ended
  std::optional<Error> failure;   // the one nearest to the start; its `got` is set at the end
  std::uint64_t failed_at = 0;    // file offset
  bool memory_lost = false;       // the kernel may still use the memory: never give it back
  // A padded last block reached past the end of the file: cut the file back from `padded_end`.
  std::uint64_t padded_end = 0;
  std::uint64_t exact_end = 0;
  PendingRequest* next = nullptr;
  std::size_t active_index = 0;

  // Between the engine and the Ticket.
  std::mutex mutex;
  std::condition_variable completed;
  std::atomic<bool> done{false};
  Result<std::size_t> transferred = std::size_t{0};
  std::atomic<int> references{0};
  // Shared, for a Ticket may outlive its Engine.
  std::shared_ptr<RequestPool> pool;

  std::uint64_t end() const noexcept { return offset + size_bytes; }
  bool fully_cut() const noexcept { return cut_to == end(); }
};

// Publishes the result: wakes who waits on the Ticket, or runs the callback. Drops the engine's
// reference, so `request` must not be used afterwards.
void complete(PendingRequest* request);

// Drops one reference.
void release(PendingRequest* request) noexcept;

// Keeps ended requests for reuse. Any thread.
class RequestPool {
 public:
  explicit RequestPool(std::size_t capacity);
  ~RequestPool();
  RequestPool(const RequestPool&) = delete;
  RequestPool& operator=(const RequestPool&) = delete;

  // Allocates only when more requests are held by Tickets than were ever before.
  PendingRequest* take();
  void put(PendingRequest* request) noexcept;

 private:
  std::mutex mutex_;
  std::vector<PendingRequest*> free_;
  std::size_t made_ = 0;
};

// True on a thread of the engine that `pool` belongs to: waiting there would wait for itself.
bool on_engine_thread(const RequestPool* pool) noexcept;
void set_engine_thread(const RequestPool* pool) noexcept;

}  // namespace spillway::aio
