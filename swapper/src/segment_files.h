// SegmentFiles: the files of a store and the requests under way on them.
//
// Files are made under the directories' locks; close() unlinks them. A File is never closed under
// an I/O, even when everybody has stopped waiting for it: close() waits, and where it cannot the
// object lives on until the engine has completed the request. Thread-safe but for close().
#pragma once

#include <spillway/aio/engine.h>
#include <spillway/swapper/directory_lock.h>
#include <spillway/swapper/tier.h>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
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

  // Lists, then makes every file at its full size. On failure nothing is left behind.
  // close() must be called before the result is dropped.
  static Result<std::shared_ptr<SegmentFiles>> create(aio::Engine& engine, std::vector<File> files,
                                                      aio::Direct direct);
  ~SegmentFiles();

  std::shared_ptr<Pending> start(aio::Direction direction, const Region& region, aio::Buffer buffer,
                                 aio::Priority priority);
  // Unlinks the files, waits for what is under way (not again for a request that has overrun its
  // deadline already) and lets go of the locks. Once; nothing may be started after it.
  void close();

  const std::string& path(std::uint32_t segment) const { return open_[segment].path(); }
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
  SegmentFiles(aio::Engine& engine, std::vector<File> files);
  Result<void> make_files(aio::Direct direct);
  void unlink() noexcept;
  void count(aio::Direction direction, const Region& region, const aio::Completion& completion);
  void one_less_in_flight();

  aio::Engine& engine_;
  std::vector<File> files_;
  std::vector<aio::File> open_;           // of each file, in order
  std::set<DirectoryLock*> listed_with_;  // locks that have our names on their list
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
