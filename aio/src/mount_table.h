// The kernel's table of mounts, /proc/self/mountinfo (proc(5)), by the number of a mount. By paths
// it could not tell a mount from one that hides it, nor a subvolume of btrfs.
#pragma once

#include <cstdint>
#include <istream>
#include <optional>
#include <string>

namespace spillway::aio {

struct MountEntry {
  std::uint64_t device = 0;  // of the filesystem, as makedev() gives it
  std::string point;         // where it is mounted
};

// Returns the number of the mount that a descriptor is on, from its text in /proc/self/fdinfo.
std::optional<std::uint64_t> mount_number(std::istream& fdinfo);
// Returns the mount's entry in the table; nothing if it is not there.
std::optional<MountEntry> find_mount(std::istream& mountinfo, std::uint64_t number);

}  // namespace spillway::aio
