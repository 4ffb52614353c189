#include <spillway/aio/free_space.h>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

#include "mount_table.h"

namespace spillway::aio {
namespace {

// Some network filesystems say "more than anybody counts".
std::uint64_t free_bytes_of(const struct statvfs& space) {
  std::uint64_t bytes = 0;
  constexpr std::uint64_t kLargest = std::numeric_limits<std::int64_t>::max();
  if (__builtin_mul_overflow(std::uint64_t{space.f_bavail}, std::uint64_t{space.f_frsize},
                             &bytes)) {
    return kLargest;
  }
  return std::min(bytes, kLargest);
}

// Only where new files inherit it, statvfs tells of its limit (xfs_fs_statfs, ext4_statfs).
std::uint32_t project_of(int fd) {
  struct fsxattr attributes {};
  if (::ioctl(fd, FS_IOC_FSGETXATTR, &attributes) != 0) return 0;
  return (attributes.fsx_xflags & FS_XFLAG_PROJINHERIT) != 0 ? attributes.fsx_projid : 0;
}

std::optional<MountEntry> mount_of(int fd) {
  std::ifstream fdinfo("/proc/self/fdinfo/" + std::to_string(fd));
  const auto number = mount_number(fdinfo);
  if (!number) return std::nullopt;
  std::ifstream mountinfo("/proc/self/mountinfo");
  return find_mount(mountinfo, *number);
}

// Returns a path of the table without its octal escapes of blanks.
std::string unescaped(const std::string& text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    if (text[i] == '\\' && std::sscanf(text.c_str() + i + 1, "%3o", &code) == 1) {
      plain += static_cast<char>(code);
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

}  // namespace

std::optional<std::uint64_t> mount_number(std::istream& fdinfo) {
  for (std::string word; fdinfo >> word;) {
    std::uint64_t number = 0;
    if (word == "mnt_id:" && fdinfo >> number) return number;
  }
  return std::nullopt;
}

// "36 35 98:0 /root /mnt/point rw,noatime ...": number, parent, device, root, point.
std::optional<MountEntry> find_mount(std::istream& mountinfo, std::uint64_t number) {
  for (std::string line; std::getline(mountinfo, line);) {
    std::istringstream words(line);
    std::uint64_t here = 0;
    std::uint64_t parent = 0;
    unsigned upper = 0;
    unsigned lower = 0;
    char colon = 0;
    std::string root;
    std::string point;
    if (!(words >> here >> parent >> upper >> colon >> lower >> root >> point)) continue;
    if (here == number) return MountEntry{makedev(upper, lower), unescaped(point)};
  }
  return std::nullopt;
}

Result<FreeSpace> free_space(const std::filesystem::path& directory) {
  struct Opened {
    int fd;
    ~Opened() {
      if (fd >= 0) ::close(fd);
    }
  };
  const Opened opened{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  const int fd = opened.fd;
  struct stat status {};
  struct statvfs space {};
  if (fd < 0 || ::fstat(fd, &status) != 0 || ::fstatvfs(fd, &space) != 0) {
    return errno_error("ask for free space", directory.string(), errno);
  }
  FreeSpace found{.free_bytes = free_bytes_of(space),
                  .filesystem_free_bytes = free_bytes_of(space),
                  .filesystem = status.st_dev,
                  .project = project_of(fd)};
  if (const auto mount = mount_of(fd)) {
    found.filesystem = mount->device;
    struct statvfs whole {};
    // A mount of one project's directory tells of that project.
    if (::statvfs(mount->point.c_str(), &whole) == 0) {
      found.filesystem_free_bytes = std::max(found.free_bytes, free_bytes_of(whole));
    }
  }
  return found;
}

}  // namespace spillway::aio
