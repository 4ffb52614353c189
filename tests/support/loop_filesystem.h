// Mounts a small filesystem on a loop device over a file: for real ENOSPC and EIO, and for features
// that the build's filesystem lacks. Needs root; otherwise `why_not()` names what is missing, and
// the test skips with that reason.
#pragma once

#include <sys/mount.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "scratch.h"

namespace spillway {

class LoopFilesystem {
 public:
  // `kind`: "ext4", or "xfs", which needs at least 300 MiB (of a sparse file).
  // `sector_bytes`: of the device, 512 or 4096. `options`: of the mount.
  explicit LoopFilesystem(std::uint64_t size_bytes, const std::string& kind = "ext4",
                          std::uint32_t sector_bytes = 512, const std::string& options = "") {
    if (::geteuid() != 0) {
      why_not_ = "mounting a loop device needs root";
      return;
    }
    std::filesystem::create_directory(mount_point());
    if (::truncate(make_image().c_str(), static_cast<off_t>(size_bytes)) != 0 ||
        !run(make_command(kind, sector_bytes) + " '" + image().string() + "'")) {
      why_not_ = "mkfs." + kind + " cannot be run";
      return;
    }
    device_ = output("losetup -f --show --direct-io=on --sector-size " +
                     std::to_string(sector_bytes) + " '" + image().string() + "'");
    if (device_.empty() ||
        ::mount(device_.c_str(), mount_point().c_str(), kind.c_str(), 0, options.c_str()) != 0) {
      why_not_ = "loop devices with " + kind + " cannot be mounted here";
      if (!options.empty()) why_not_ += " with " + options;
      return;
    }
    mounted_ = true;
  }
  ~LoopFilesystem() {
    if (mounted_) ::umount2(mount_point().c_str(), MNT_DETACH);
    if (!device_.empty()) run("losetup -d " + device_);
  }
  LoopFilesystem(const LoopFilesystem&) = delete;
  LoopFilesystem& operator=(const LoopFilesystem&) = delete;

  // Returns an empty text if the filesystem is mounted.
  const std::string& why_not() const noexcept { return why_not_; }
  std::filesystem::path mount_point() const { return scratch_ / "mount"; }
  // Returns the file behind the device. Truncating it makes the rest unreadable.
  std::filesystem::path image() const { return scratch_ / "image"; }

 private:
  static std::string make_command(const std::string& kind, std::uint32_t sector_bytes) {
    const std::string blocks = sector_bytes > 1024 ? " -b " + std::to_string(sector_bytes) : "";
    if (kind == "ext4") return "mkfs.ext4 -q -F -m 0 -O ^has_journal" + blocks;
    return "mkfs." + kind + " -q -f";
  }
  static bool run(const std::string& command) {
    return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
  }
  static std::string output(const std::string& command) {
    std::string line;
    if (std::FILE* pipe = ::popen((command + " 2>/dev/null").c_str(), "r")) {
      char part[256];
      if (std::fgets(part, sizeof part, pipe) != nullptr) line = part;
      ::pclose(pipe);
    }
    line.erase(line.find_last_not_of('\n') + 1);
    return line;
  }
  std::filesystem::path make_image() const {
    if (std::FILE* file = std::fopen(image().c_str(), "w")) std::fclose(file);
    return image();
  }

  Scratch scratch_;
  std::string device_;
  std::string why_not_;
  bool mounted_ = false;
};

}  // namespace spillway
