// WriteBack: writes a growing file back to the drive while it grows, and drops clean pages from the
// page cache. The cache stays small, and the final sync short. Internal to files of checkpoints and
// exports. One thread at a time.
#pragma once

#include <fcntl.h>

#include <cstdint>

namespace spillway::trainer {

class WriteBack {
 public:
  // Starts to write back the bytes before `offset`, and drops those of the call before. REQUIRES:
  // they are final. These are hints to the kernel: errors appear when the file is synced.
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
