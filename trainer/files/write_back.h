// WriteBack: what was written through the page cache goes to the drive as it comes, and leaves the
// cache when it is clean, so that neither a sync at the end nor the cache gets large. Internal to
// files of checkpoints and exports.
#pragma once

#include <fcntl.h>

#include <cstdint>

namespace spillway::trainer {

class WriteBack {
 public:
  // All before `offset` is complete. What was sent before is clean by now. Hints: an error shows in
  // the file's sync.
  void complete_until(int fd, std::uint64_t offset) {
    if (offset < started_ + kBytesAtATime) return;
    ::sync_file_range(fd, static_cast<off_t>(started_), static_cast<off_t>(offset - started_),
                      SYNC_FILE_RANGE_WRITE);
    ::posix_fadvise(fd, 0, static_cast<off_t>(started_), POSIX_FADV_DONTNEED);
    started_ = offset;
  }

 private:
  static constexpr std::uint64_t kBytesAtATime = std::uint64_t{8} << 20;

  std::uint64_t started_ = 0;  // bytes whose write-back was started
};

}  // namespace spillway::trainer
