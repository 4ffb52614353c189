#include <fcntl.h>
#include <linux/magic.h>
#include <spillway/aio/probe.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string_view>
#include <utility>

#include "dio_alignment.h"

namespace spillway::aio {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  line.erase(line.find_last_not_of(" \t\r\n") + 1);
  return line;
}

struct Mount {
  std::string filesystem;
  std::string source;
};

// mountinfo writes blanks in paths as \040 and the like (proc(5)).
std::string unescape(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      result +=
          static_cast<char>(std::strtol(std::string(text.substr(i + 1, 3)).c_str(), nullptr, 8));
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

bool lies_below(const fs::path& path, const fs::path& root) {
  auto [at, rest] = std::mismatch(root.begin(), root.end(), path.begin(), path.end());
  (void)rest;
  return at == root.end();
}

// The mount that `path` (canonical) lies on: the longest mount point above it, the last one
// mounted where several are stacked.
Mount mount_of(const fs::path& path) {
  Mount result;
  std::size_t longest = 0;
  std::ifstream file("/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string id, parent, device, root, point, word;
    words >> id >> parent >> device >> root >> point;
    while (words >> word && word != "-") {
    }
    Mount mount;
    words >> mount.filesystem >> mount.source;
    point = unescape(point);
    if (point.size() >= longest && lies_below(path, point)) {
      longest = point.size();
      result = {mount.filesystem, unescape(mount.source)};
    }
  }
  return result;
}

// Inside a chroot the root's own mount is not listed; then the filesystem's magic number tells.
std::string name_by_magic(const fs::path& path) {
  struct statfs found {};
  if (::statfs(path.c_str(), &found) != 0) return {};
  switch (static_cast<std::uint64_t>(found.f_type)) {
    case EXT4_SUPER_MAGIC:
      return "ext4";  // or ext2, ext3: they share the number
    case XFS_SUPER_MAGIC:
      return "xfs";
    case BTRFS_SUPER_MAGIC:
      return "btrfs";
    case TMPFS_MAGIC:
      return "tmpfs";
    case OVERLAYFS_SUPER_MAGIC:
      return "overlay";
    default:
      return "unknown";
  }
}

// The folder of a block device in sysfs; empty when `device` is none.
fs::path sysfs_of(dev_t device) {
  std::error_code none;
  fs::path link =
      "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
  return fs::canonical(link, none);
}

void describe_device(const fs::path& sysfs, PathProbe& probe) {
  probe.block_device = "/dev/" + sysfs.filename().string();
  // A partition has no queue of its own; its disk is the folder above.
  std::error_code none;
  fs::path disk = fs::exists(sysfs / "queue", none) ? sysfs : sysfs.parent_path();
  probe.device_model = first_line(disk / "device/model");
  probe.rotational = first_line(disk / "queue/rotational") == "1";
  std::string scheduler = first_line(disk / "queue/scheduler");  // "[none] mq-deadline"
  auto open = scheduler.find('[');
  auto close = scheduler.find(']');
  if (open != std::string::npos && close != std::string::npos && open < close) {
    probe.scheduler = scheduler.substr(open + 1, close - open - 1);
  }
  probe.numa_node = numa_node_of_device(sysfs.filename().string());
}

Capability real_disk(const PathProbe& probe, const fs::path& sysfs) {
  Capability result{.name = "real disk"};
  if (probe.block_device.empty()) {
    result.reason = "the filesystem is " +
                    (probe.filesystem.empty() ? "unknown" : probe.filesystem) +
                    ", with no block device behind it";
    result.fix = "choose a directory on a local disk";
    return result;
  }
  std::string backing = first_line(sysfs / "loop/backing_file");
  std::string name = sysfs.filename().string();
  if (!backing.empty()) {
    result.reason = probe.block_device + " is a loop device over " + backing;
  } else if (name.starts_with("ram") || name.starts_with("zram")) {
    result.reason = probe.block_device + " is a disk in RAM";
  } else {
    result.available = true;
    result.reason = probe.block_device;
    if (!probe.device_model.empty()) result.reason += " (" + probe.device_model + ")";
    if (probe.rotational) result.reason += ", which the kernel takes for rotational";
    return result;
  }
  result.fix = "choose a directory on a local disk";
  return result;
}

// A file with no name, so that nothing is left behind whatever happens. Returns -errno.
int open_unnamed(const fs::path& directory) {
  int fd = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) {
    return fd >= 0 ? fd : -errno;
  }
  std::string name = (directory / ".spillway-probe.XXXXXX").string();  // no O_TMPFILE here (NFS)
  fd = ::mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0) return -errno;
  ::unlink(name.c_str());
  return fd;
}

Capability try_direct(int fd, PathProbe& probe) {
  Capability result{.name = "O_DIRECT"};
  result.fix = "nothing must be done: I/O goes through the page cache, which costs memory and CPU";
  DioAlignment alignment = dio_alignment(fd);
  if (!alignment.possible) {
    result.reason = "the filesystem says that it has no direct I/O for its files";
    return result;
  }
  if (::fcntl(fd, F_SETFL, O_DIRECT) != 0) {
    result.reason = std::string("the filesystem refuses it: ") + ::strerrordesc_np(errno);
    return result;
  }
  std::size_t bytes = std::max(alignment.offset, alignment.memory);
  std::unique_ptr<void, decltype(&std::free)> block(std::aligned_alloc(bytes, bytes), &std::free);
  std::memset(block.get(), 0, bytes);
  if (::pwrite(fd, block.get(), bytes, 0) != static_cast<ssize_t>(bytes)) {
    result.reason = std::string("a direct write fails: ") + ::strerrordesc_np(errno);
    return result;
  }
  probe.memory_alignment = alignment.memory;
  probe.offset_alignment = alignment.offset;
  result.available = true;
  result.fix.clear();
  result.reason = "memory aligned to " + std::to_string(alignment.memory) + ", offsets to " +
                  std::to_string(alignment.offset) + " bytes" +
                  (alignment.known ? "" : " (assumed: the kernel does not say)");
  return result;
}

}  // namespace

PathProbe probe_path(const fs::path& directory) {
  PathProbe probe;
  probe.path = directory.string();
  Capability writable{.name = "directory writable"};
  struct stat status {};
  std::error_code failure;
  fs::path canonical = fs::canonical(directory, failure);
  if (failure || ::stat(canonical.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
    writable.reason = failure ? failure.message() : "not a directory";
    writable.fix = "create the directory";
    probe.capabilities.push_back(writable);
    return probe;
  }
  Mount mount = mount_of(canonical);
  probe.filesystem = mount.filesystem.empty() ? name_by_magic(canonical) : mount.filesystem;
  struct statvfs space {};
  if (::statvfs(canonical.c_str(), &space) == 0) {
    probe.free_bytes = std::uint64_t{space.f_bavail} * space.f_frsize;
    probe.size_bytes = std::uint64_t{space.f_blocks} * space.f_frsize;
  }
  fs::path sysfs = sysfs_of(status.st_dev);
  struct stat source {};
  if (sysfs.empty() && ::stat(mount.source.c_str(), &source) == 0 && S_ISBLK(source.st_mode)) {
    sysfs = sysfs_of(source.st_rdev);  // btrfs and others number their files apart from the disk
  }
  if (!sysfs.empty()) describe_device(sysfs, probe);

  int fd = open_unnamed(canonical);
  writable.available = fd >= 0;
  if (fd < 0) {
    writable.reason = ::strerrordesc_np(-fd);
    writable.fix = "give this user the right to write there";
    probe.capabilities.push_back(writable);
    probe.capabilities.push_back({.name = "O_DIRECT", .reason = "not tried: not writable"});
  } else {
    writable.reason = "a file can be created";
    probe.capabilities.push_back(writable);
    probe.capabilities.push_back(try_direct(fd, probe));
    ::close(fd);
  }
  probe.capabilities.push_back(real_disk(probe, sysfs));
  return probe;
}

}  // namespace spillway::aio
