// SegmentFiles: the files of a store and the requests in flight on them.
//
// Files are created under the directories' locks and unlinked by `close`. A File is never closed
// under an I/O, even an abandoned one: `close` waits, and if it cannot, the object lives on until
// the engine has completed the request. Threads: any; but no request may be in flight, and no other
// call may run, during `close`, `add`, `seal` and `remove`.
#pragma once

#include <spillway/aio/engine.h>
#include <spillway/aio/mutex.h>
#include <spillway/aio/owner_process.h>
#include <spillway/swapper/directory_lock.h>
#include <spillway/swapper/sealed_tile.h>
#include <spillway/swapper/tier.h>
#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "segment_request.h"

namespace spillway::swapper {

class SegmentFiles : public std::enable_shared_from_this<SegmentFiles> {
 public:
  struct File {
    std::shared_ptr<DirectoryLock> lock;
    std::string name;  // in the lock's directory
    std::uint64_t size_bytes = 0;
    std::size_t directory = 0;  // index among the store's: for the statistics
    bool sparse = false;        // takes no space before `refill`
  };
  struct SavedFile {
    std::string path;
    std::uint64_t size_bytes = 0;
  };
  struct Region {
    std::uint32_t segment = 0;
    std::uint64_t offset = 0;  // bytes from the start of the file
    std::size_t size_bytes = 0;
  };

  using Pending = SegmentRequest;

  // Makes an empty set. REQUIRES: `close` is called before it is dropped.
  SegmentFiles(aio::Engine& engine, std::size_t directories, aio::Direct direct);
  ~SegmentFiles();

  // Lists the files in their lock, creates each at its full size, and returns their numbers. After
  // a failure none of them is left.
  Result<std::vector<std::uint32_t>> add(std::vector<File> files);
  // Opens files that a save made, as sealed segments, and returns their numbers. `close` leaves
  // them where they are. kCorrupt if one has another size, kInvalid if it is no regular file.
  Result<std::vector<std::uint32_t>> open_saved(std::span<const SavedFile> files);
  // Reopens the files for reading only, so that no write reaches them any more. All or none.
  Result<void> seal(std::span<const std::uint32_t> segments);
  bool is_sealed(std::uint32_t segment) const { return segments_[segment].is_sealed; }
  // Returns the sealed segment. REQUIRES: is_sealed(segment); not dropped.
  const std::shared_ptr<SealedSegment>& sealed(std::uint32_t segment) const {
    return segments_[segment].sealed;
  }
  // Frees the disk space of a region (punches a hole). False if the filesystem cannot.
  bool punch(const Region& region) noexcept;
  // Allocates that space again. kNoSpace with the arithmetic. REQUIRES: a punched or sparse region.
  Result<void> refill(const Region& region);
  // Unlinks and closes a sealed segment without tiles. Its number stays in use until `remove`.
  void drop(std::uint32_t segment) noexcept;
  // Blocks until no request is in flight, not even an abandoned one. kDeadline after
  // Transfer::kDefaultTimeout, or at once if a request has already overrun its deadline.
  Result<void> wait_until_idle();
  // Unlinks and closes the files; their numbers are reused.
  void remove(std::span<const std::uint32_t> segments) noexcept;

  std::shared_ptr<Pending> start(aio::Direction direction, const Region& region, aio::Buffer buffer,
                                 aio::Priority priority);
  // Unlinks the files, waits for requests in flight (except those that have overrun their deadline)
  // and releases the locks. The last call.
  void close();

  const std::string& path(std::uint32_t segment) const { return segments_[segment].path; }
  // Returns a line for each directory whose files work through the page cache.
  std::vector<std::string> not_direct() const;
  std::uint64_t storage_bytes() const noexcept;
  TierStats stats() const noexcept;
  // Returns the counters of one directory's files.
  TierStats stats(std::size_t directory) const noexcept;
  std::uint64_t storage_bytes(std::size_t directory) const noexcept;
  // Records that a waiter gave up on a request: `close` does not wait for it again.
  void overrun() noexcept { overrun_.store(true, std::memory_order_relaxed); }
  // Returns the process of the store: in another one only `close` and the destructor may be called.
  const aio::OwnerProcess& owner() const noexcept { return owner_; }

 private:
  struct Segment {
    File file;
    std::string path;
    bool listed = false;            // its name is on the lock's list
    std::optional<aio::File> open;  // for reading only, if it is sealed
    bool is_sealed = false;
    std::shared_ptr<SealedSegment> sealed;
    std::atomic<std::uint64_t> taken_bytes{0};  // of size_bytes, less the holes
    void clear() noexcept;
  };
  Result<void> make(std::span<const std::uint32_t> segments);
  Result<aio::File> make(const File& file);
  void take(Segment& segment, std::int64_t bytes) noexcept;
  bool is_idle_in_time(MutexLock& guard) SPILLWAY_REQUIRES(mutex_);
  void unlink(std::span<const std::uint32_t> segments) noexcept;
  std::vector<std::uint32_t> all() const;
  void count(aio::Direction direction, const Region& region, const aio::Completion& completion);
  void one_less_in_flight();

  const aio::OwnerProcess owner_;
  aio::Engine& engine_;
  const aio::Direct direct_;
  std::deque<Segment> segments_;     // with stable addresses; unused if not open
  std::vector<std::uint32_t> free_;  // numbers of unused segments
  std::atomic<bool> overrun_{false};
  struct Moved {
    std::atomic<std::uint64_t> read_bytes{0};
    std::atomic<std::uint64_t> written_bytes{0};
    std::atomic<std::uint64_t> stored_bytes{0};
  };
  std::vector<Moved> moved_;  // by directory

  Mutex mutex_;
  CondVar idle_;
  std::size_t in_flight_ SPILLWAY_GUARDED_BY(mutex_) = 0;
  // Itself, if `close` could not wait.
  std::shared_ptr<SegmentFiles> until_idle_ SPILLWAY_GUARDED_BY(mutex_);
};

}  // namespace spillway::swapper
