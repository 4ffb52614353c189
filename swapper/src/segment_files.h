// SegmentFiles: the files of a store and the requests in flight on them.
//
// Files are created under the directories' locks and unlinked by `close`. A File is never closed
// under an I/O, even an abandoned one: `close` waits, and if it cannot, the object lives on until
// the engine has completed the request. Threads: any; but no request may be in flight, and no other
// call may run, during `close`, `add`, `seal` and `remove`.
#pragma once

#include <spillway/aio/engine.h>
#include <spillway/aio/mutex.h>
#include <spillway/swapper/directory_lock.h>
#include <spillway/swapper/sealed_tile.h>
#include <spillway/swapper/tier.h>
#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace spillway::swapper {

class SegmentFiles : public std::enable_shared_from_this<SegmentFiles> {
 public:
  struct File {
    std::shared_ptr<DirectoryLock> lock;
    std::string name;  // in the lock's directory
    std::uint64_t size_bytes = 0;
    std::size_t directory = 0;  // index among the store's: for the statistics
  };
  struct Region {
    std::uint32_t segment = 0;
    std::uint64_t offset = 0;  // bytes from the start of the file
    std::size_t size_bytes = 0;
  };

  // Pending: one request in flight.
  class Pending {
   public:
    bool done() const noexcept;
    // Makes a read urgent.
    void expedite() noexcept;
    // Cancels a read.
    void cancel() noexcept;
    // Calls `function` once it is complete: on the thread that completes it, or at once.
    void when_done(std::function<void()> function);
    // Returns the time of completion; nothing if it is not complete.
    std::optional<std::chrono::steady_clock::time_point> ended() const noexcept;
    // Blocks until the request is complete; returns nothing at the deadline, and the engine then
    // keeps the memory.
    std::optional<aio::Completion> wait_until(std::chrono::steady_clock::time_point deadline);

   private:
    friend class SegmentFiles;
    void complete(aio::Completion completion);

    mutable Mutex mutex_;
    CondVar changed_;
    std::optional<aio::Completion> completion_ SPILLWAY_GUARDED_BY(mutex_);
    std::optional<std::chrono::steady_clock::time_point> ended_ SPILLWAY_GUARDED_BY(mutex_);
    std::function<void()> when_done_ SPILLWAY_GUARDED_BY(mutex_);
    // For `expedite` and `cancel`. It lives until the request has completed: dropping it would
    // cancel.
    aio::Ticket ticket_;
  };

  // Makes an empty set. REQUIRES: `close` is called before it is dropped.
  SegmentFiles(aio::Engine& engine, std::size_t directories, aio::Direct direct);
  ~SegmentFiles();

  // Lists the files in their lock, creates each at its full size, and returns their numbers. After
  // a failure none of them is left.
  Result<std::vector<std::uint32_t>> add(std::vector<File> files);
  // Reopens the files for reading only, so that no write reaches them any more. All or none.
  Result<void> seal(std::span<const std::uint32_t> segments);
  // Returns the sealed segment, or null if it is not sealed.
  const std::shared_ptr<SealedSegment>& sealed(std::uint32_t segment) const {
    return segments_[segment].sealed;
  }
  // Frees the disk space of an unused region, if the filesystem can (punches a hole).
  void punch(const Region& region) noexcept;
  // Allocates that space again.
  void refill(const Region& region) noexcept;
  // Blocks until no request is in flight, not even an abandoned one. kDeadline after
  // Transfer::kDefaultTimeout, or at once if a request has already overrun its deadline.
  Result<void> wait_until_idle();
  // Unlinks and closes the files; their numbers are reused.
  void remove(std::span<const std::uint32_t> segments) noexcept;

  std::shared_ptr<Pending> start(aio::Direction direction, const Region& region, aio::Buffer buffer,
                                 aio::Priority priority);
  // Unlinks the files, waits for requests in flight (except those that have overrun their deadline)
  // and releases the locks. Called once; nothing may be started afterwards.
  void close();

  const std::string& path(std::uint32_t segment) const { return segments_[segment].open->path(); }
  // Returns a line for each directory whose files work through the page cache.
  std::vector<std::string> not_direct() const;
  std::uint64_t storage_bytes() const noexcept;
  TierStats stats() const noexcept;
  // Returns the counters of one directory's files.
  TierStats stats(std::size_t directory) const noexcept;
  std::uint64_t storage_bytes(std::size_t directory) const noexcept;
  // Records that a waiter gave up on a request: `close` does not wait for it again.
  void overrun() noexcept { overrun_.store(true, std::memory_order_relaxed); }

 private:
  struct Segment {
    File file;
    bool listed = false;            // its name is on the lock's list
    std::optional<aio::File> open;  // for reading only, if it is sealed
    std::shared_ptr<SealedSegment> sealed;
  };
  Result<void> make(std::span<const std::uint32_t> segments);
  bool is_idle_in_time(MutexLock& guard) SPILLWAY_REQUIRES(mutex_);
  void unlink(std::span<const std::uint32_t> segments) noexcept;
  std::vector<std::uint32_t> all() const;
  void count(aio::Direction direction, const Region& region, const aio::Completion& completion);
  void one_less_in_flight();

  aio::Engine& engine_;
  const aio::Direct direct_;
  std::deque<Segment> segments_;     // with stable addresses; unused if not open
  std::vector<std::uint32_t> free_;  // numbers of unused segments
  std::atomic<bool> overrun_{false};
  struct Moved {
    std::atomic<std::uint64_t> read_bytes{0};
    std::atomic<std::uint64_t> written_bytes{0};
  };
  std::vector<Moved> moved_;  // by directory

  Mutex mutex_;
  CondVar idle_;
  std::size_t in_flight_ SPILLWAY_GUARDED_BY(mutex_) = 0;
  // Itself, if `close` could not wait.
  std::shared_ptr<SegmentFiles> until_idle_ SPILLWAY_GUARDED_BY(mutex_);
};

}  // namespace spillway::swapper
