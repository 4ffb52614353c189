// StripedCore: the requests of one StripedFile in flight on its Engines.
//
// Requests wait in a queue to be cut into parts. A part comes from a fixed set and goes to the
// member's Engine, which calls back at its end and releases the part's Buffer once no device uses
// the memory. The core lives until the StripedFile, its tickets and all its requests are gone. Its
// lock is never held during a call of an Engine or of the caller's function: an Engine may call
// back at once, when it is destroyed or when it cancels a part that has not started.
#pragma once

#include <spillway/aio/mutex.h>
#include <spillway/aio/owner_process.h>
#include <spillway/aio/striped_file.h>
#include <array>
#include <atomic>
#include <optional>

namespace spillway::aio {

struct StripedRequest {
  // Set at submission. `data` is the first byte of the request inside `buffer`.
  Direction direction = Direction::kRead;
  StripedFile::Request spec;
  std::byte* data = nullptr;
  Buffer buffer;
  Engine::Callback callback;

  // Guarded by the core.
  std::uint64_t cut_to = 0;       // bytes of the request that have been cut into parts
  std::uint32_t outstanding = 0;  // parts cut and not ended
  std::optional<Error> failure;   // the one nearest to the start
  std::uint64_t failed_at = 0;    // bytes from the start of the request
  bool memory_lost = false;       // a device may use the memory for ever: never release it
  bool cancelled = false;
  bool queued = false;
  StripedRequest* next = nullptr;

  // Parts, ended or not, whose memory a device may still use.
  std::atomic<std::uint32_t> memory_out{0};
  // One of the engine side until completion, one of the ticket, one of each part's memory.
  std::atomic<std::uint32_t> references{0};
  std::shared_ptr<StripedCore> core;  // shared, because a request may outlive the StripedFile

  // Between the core and the ticket: written before `done` is set under `mutex`, read after.
  Mutex mutex;
  CondVar completed;
  std::atomic<bool> done{false};
  bool buffer_withheld = false;  // completed while a device may still use the memory
  Result<std::size_t> transferred = std::size_t{0};
};

class StripedCore : public std::enable_shared_from_this<StripedCore> {
 public:
  struct Member {
    File file;
    Engine* engine = nullptr;
    std::atomic<std::uint64_t> read_bytes{0};
    std::atomic<std::uint64_t> written_bytes{0};
    Member(File opened, Engine* used) : file(std::move(opened)), engine(used) {}
  };

  StripedCore(StripeMap map, std::uint64_t size_bytes, std::vector<Engine*> engines,
              std::vector<File> files);
  ~StripedCore();

  const StripeMap& map() const noexcept { return map_; }
  std::uint64_t size_bytes() const noexcept { return size_bytes_; }
  std::vector<std::unique_ptr<Member>>& members() noexcept { return members_; }
  const OwnerProcess& owner() const noexcept { return owner_; }

  // `references`: 2 with a ticket, 1 without.
  StripedRequest* submit(Direction direction, const StripedFile::Request& wanted, Buffer buffer,
                         Engine::Callback callback, std::uint32_t references);
  void cancel(StripedRequest* request);
  // Cancels all requests: the StripedFile is being destroyed.
  void cancel_all();

  // Makes the error for a caller that stops waiting.
  Error error_of(const StripedRequest& request, ErrorKind kind, std::string detail) const;
  static void release(StripedRequest* request) noexcept;

  // True if the StripedFile was made in this process: its tickets work.
  static bool usable(const StripedRequest& request) noexcept {
    return request.core != nullptr && request.core->owner_.is_here();
  }

 private:
  struct Part {
    StripedRequest* request = nullptr;
    std::uint64_t at = 0;  // bytes from the start of the request
    std::uint64_t size_bytes = 0;
    StripeMap::Extent extent;
    Ticket ticket = {};       // for `cancel` only; valid once `started`
    bool started = false;     // the Engine has it
    bool ended = false;       // the Engine has called back
    bool cancelling = false;  // a thread uses the ticket
  };

  StripedRequest* refuse_in_child(Direction direction, const StripedFile::Request& wanted,
                                  Buffer buffer, Engine::Callback callback, bool wants_ticket);
  StripedRequest* take_request();
  void put_request(StripedRequest* request) noexcept;
  void pump();
  bool cut(std::uint32_t& index);
  void start(std::uint32_t index);
  void cancel_part(std::uint32_t index);
  Ticket retire(std::uint32_t index) SPILLWAY_REQUIRES(mutex_);
  // A part that one thread alone has: it is cut and not started, or ended and not retired, or it is
  // being cancelled and so not retired.
  Part& own_part(std::uint32_t index) SPILLWAY_NO_THREAD_SAFETY_ANALYSIS { return parts_[index]; }
  void part_ended(std::uint32_t index, Completion completion);
  void put_in_queue(StripedRequest* request);
  void drop_from_queue(StripedRequest* request) SPILLWAY_REQUIRES(mutex_);
  static void fail(StripedRequest* request, std::uint64_t at, Error error);
  void complete(StripedRequest* request);

  const OwnerProcess owner_;
  const StripeMap map_;
  const std::uint64_t size_bytes_;
  std::vector<std::unique_ptr<Member>> members_;

  Mutex mutex_;
  std::array<Part, StripedFile::kMaxParts> parts_ SPILLWAY_GUARDED_BY(mutex_);
  std::vector<std::uint32_t> free_parts_ SPILLWAY_GUARDED_BY(mutex_);
  StripedRequest* first_ SPILLWAY_GUARDED_BY(mutex_) = nullptr;  // requests not fully cut
  StripedRequest* last_ SPILLWAY_GUARDED_BY(mutex_) = nullptr;
  // All that exist.
  std::vector<std::unique_ptr<StripedRequest>> requests_ SPILLWAY_GUARDED_BY(mutex_);
  std::vector<StripedRequest*> free_requests_ SPILLWAY_GUARDED_BY(mutex_);
};

}  // namespace spillway::aio
