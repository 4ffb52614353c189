// SegmentFiles: the files of a store and the requests under way on them.
//
// Files are made under the directories' locks; close() unlinks them. A File is never closed under
// an I/O, even when everybody has stopped waiting for it: close() waits, and where it cannot the
// object lives on until the engine has completed the request. Thread-safe but for close() and what
// changes the set of files (add, seal, remove), before which all requests are done.
#pragma once

#include <spillway/aio/engine.h>
#include <spillway/swapper/directory_lock.h>
#include <spillway/swapper/sealed_tile.h>
#include <spillway/swapper/tier.h>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
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
    std::size_t directory = 0;  // which of the store's: for the statistics
  };
  struct Region {
    std::uint32_t segment = 0;
    std::uint64_t offset = 0;  // bytes from the start of the file
    std::size_t size_bytes = 0;
  };

  // One request under way.
  class Pending {
   public:
    bool done() const noexcept;
    // Of a read.
    void expedite() noexcept;
    // When it was complete, as far as it is.
    std::optional<std::chrono::steady_clock::time_point> ended() const noexcept;
    // Nothing when the deadline came first; the memory then stays with the engine.
    std::optional<aio::Completion> wait_until(std::chrono::steady_clock::time_point deadline);

   private:
    friend class SegmentFiles;
    void complete(aio::Completion completion);

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::optional<aio::Completion> completion_;
    std::optional<std::chrono::steady_clock::time_point> ended_;
    // For expedite() alone. It lives until the request has completed, for dropping it would cancel.
    aio::Ticket ticket_;
  };

  // None at first. close() must be called before it is dropped.
  SegmentFiles(aio::Engine& engine, std::size_t directories, aio::Direct direct);
  ~SegmentFiles();

  // Lists, then makes every file at its full size, and says their numbers. On failure none of them
  // is left behind.
  Result<std::vector<std::uint32_t>> add(std::vector<File> files);
  // No write goes to these any more: they are opened anew, for reading only. All or none.
  Result<void> seal(std::span<const std::uint32_t> segments);
  // Null unless it is sealed.
  const std::shared_ptr<SealedSegment>& sealed(std::uint32_t segment) const {
    return segments_[segment].sealed;
  }
  // Gives the room of bytes that hold nothing back, where the filesystem can.
  void punch(const Region& region) noexcept;
  // Takes that room again.
  void refill(const Region& region) noexcept;
  // Blocks until no request is under way, not even one that was abandoned. kDeadline after
  // Transfer::kDefaultTimeout, or at once when a request has overrun its deadline already.
  Result<void> wait_until_idle();
  // Unlinks and closes them; their numbers come again.
  void remove(std::span<const std::uint32_t> segments) noexcept;

  std::shared_ptr<Pending> start(aio::Direction direction, const Region& region, aio::Buffer buffer,
                                 aio::Priority priority);
  // Unlinks the files, waits for what is under way (not again for a request that has overrun its
  // deadline already) and lets go of the locks. Once; nothing may be started after it.
  void close();

  const std::string& path(std::uint32_t segment) const { return segments_[segment].open->path(); }
  // A line for each directory whose files work through the page cache.
  std::vector<std::string> not_direct() const;
  std::uint64_t storage_bytes() const noexcept;
  TierStats stats() const noexcept;
  // Of the files of one directory.
  TierStats stats(std::size_t directory) const noexcept;
  std::uint64_t storage_bytes(std::size_t directory) const noexcept;
  // A waiter gave up on a request: close() need not wait for it another time.
  void overrun() noexcept { overrun_.store(true, std::memory_order_relaxed); }

 private:
  struct Segment {
    File file;
    bool listed = false;            // the lock has its name on the list
    std::optional<aio::File> open;  // for reading only when it is sealed
    std::shared_ptr<SealedSegment> sealed;
  };
  Result<void> make(std::span<const std::uint32_t> segments);
  bool is_idle_in_time(std::unique_lock<std::mutex>& guard);
  void unlink(std::span<const std::uint32_t> segments) noexcept;
  std::vector<std::uint32_t> all() const;
  void count(aio::Direction direction, const Region& region, const aio::Completion& completion);
  void one_less_in_flight();

  aio::Engine& engine_;
  const aio::Direct direct_;
  std::deque<Segment> segments_;     // stay where they are; one that is not open is none
  std::vector<std::uint32_t> free_;  // numbers of those that are none
  std::atomic<bool> overrun_{false};
  struct Moved {
    std::atomic<std::uint64_t> read_bytes{0};
    std::atomic<std::uint64_t> written_bytes{0};
  };
  std::vector<Moved> moved_;  // by directory

  std::mutex mutex_;  // guards what follows
  std::condition_variable idle_;
  std::size_t in_flight_ = 0;
  std::shared_ptr<SegmentFiles> until_idle_;  // itself, when close() could not wait
};

}  // namespace spillway::swapper
