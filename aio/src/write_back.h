// Writing back the page cache's pages of a range: how all Backends do it.
//
// It moves dirty pages to the drive and waits for them. It is no flush of the drive's own cache.
#pragma once

#include <fcntl.h>

#include <cerrno>
#include <cstdint>

namespace spillway::aio {

inline constexpr unsigned kWriteBackFlags =
    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;

// Returns 0 or -errno. Blocks.
inline std::int32_t write_back(int fd, std::uint64_t offset, std::uint32_t size_bytes) {
  const int rc = ::sync_file_range(fd, static_cast<off_t>(offset), size_bytes, kWriteBackFlags);
  return rc == 0 ? 0 : -errno;
}

}  // namespace spillway::aio
