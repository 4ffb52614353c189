#include "dio_alignment.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace spillway::aio {

DioAlignment dio_alignment(int fd) {
  // Not in the headers of older systems: the bit and the place of the two fields are the kernel's
  // ABI (include/uapi/linux/stat.h).
  constexpr unsigned kDioAlign = 0x2000;
  constexpr std::size_t kMemoryAlignAt = 0x98;
  constexpr std::size_t kOffsetAlignAt = 0x9c;
  DioAlignment result;
  struct statx status {};
  static_assert(sizeof(status) >= kOffsetAlignAt + 4);
  if (::statx(fd, "", AT_EMPTY_PATH, kDioAlign, &status) != 0) return result;
  if ((status.stx_mask & kDioAlign) == 0) return result;
  std::uint32_t memory = 0;
  std::uint32_t offset = 0;
  std::memcpy(&memory, reinterpret_cast<const char*>(&status) + kMemoryAlignAt, sizeof memory);
  std::memcpy(&offset, reinterpret_cast<const char*>(&status) + kOffsetAlignAt, sizeof offset);
  result.known = true;
  result.possible = memory != 0 && offset != 0;
  if (!result.possible) return result;
  result.memory = std::bit_ceil(memory);
  result.offset = std::bit_ceil(offset);
  return result;
}

}  // namespace spillway::aio
