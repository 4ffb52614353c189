// Throttles a block device for this process (cgroup v1's blkio controller), without using CPU.
// Needs root; otherwise `why_not()` names what is missing, and the test skips with that reason.
#pragma once

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

namespace spillway {

class BlkioThrottle {
 public:
  // Limits the device that holds `path`, reads and writes each.
  BlkioThrottle(const std::filesystem::path& path, std::uint64_t bytes_per_second)
      : group_(root() / ("spillway-test-" + std::to_string(::getpid()))) {
    std::error_code failed;
    if (!std::filesystem::exists(root() / "cgroup.procs", failed)) {
      why_not_ = "there is no blkio controller of cgroup v1 here";
      return;
    }
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0 || !std::filesystem::create_directory(group_, failed)) {
      why_not_ = "making a cgroup needs root";
      return;
    }
    const std::string limit = std::to_string(major(status.st_dev)) + ":" +
                              std::to_string(minor(status.st_dev)) + " " +
                              std::to_string(bytes_per_second);
    if (!put(group_ / "blkio.throttle.read_bps_device", limit) ||
        !put(group_ / "blkio.throttle.write_bps_device", limit) ||
        !put(group_ / "cgroup.procs", std::to_string(::getpid()))) {
      why_not_ = "this kernel does not throttle devices";
    }
  }
  ~BlkioThrottle() {
    put(root() / "cgroup.procs", std::to_string(::getpid()));
    ::rmdir(group_.c_str());
  }
  BlkioThrottle(const BlkioThrottle&) = delete;
  BlkioThrottle& operator=(const BlkioThrottle&) = delete;

  // Returns an empty text once the device is throttled.
  const std::string& why_not() const noexcept { return why_not_; }

 private:
  static std::filesystem::path root() { return "/sys/fs/cgroup/blkio"; }
  static bool put(const std::filesystem::path& file, const std::string& text) {
    std::ofstream out(file);
    out << text << std::flush;
    return out.good();
  }

  std::filesystem::path group_;
  std::string why_not_;
};

}  // namespace spillway
