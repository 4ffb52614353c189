// DioAlignment: the kernel's requirements for direct I/O on an open file (statx, STATX_DIOALIGN,
// Linux 6.1).
#pragma once

#include <cstdint>

namespace spillway::aio {

struct DioAlignment {
  bool possible = true;         // false: the filesystem has no direct I/O for this file
  bool known = false;           // false: the kernel reports nothing; the values are a safe guess
  std::uint32_t memory = 4096;  // bytes
  std::uint32_t offset = 4096;  // bytes, of offsets and lengths
};

DioAlignment dio_alignment(int fd);

}  // namespace spillway::aio
