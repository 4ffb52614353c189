// Which I/O this machine allows, and exactly why not more.
//
// Nothing is cached and nothing stays behind: each call asks the kernel, and what a directory
// allows is tried on a file with no name. Blocks for milliseconds. Any thread.
#pragma once

#include <spillway/aio/export.h>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace spillway::aio {

struct Capability {
  std::string name = {};  // "io_uring", "registered buffers", "O_DIRECT", ...
  bool available = false;
  std::string reason = {};  // what was found; when not available, why
  std::string fix = {};     // what the user can do; empty when available or nothing can be done
};

// io_uring, SINGLE_ISSUER + DEFER_TASKRUN, registered buffers and files.
SPILLWAY_API std::vector<Capability> probe_kernel();

struct PathProbe {
  std::string path;
  std::string filesystem;    // "ext4", "tmpfs", ...
  std::string block_device;  // "/dev/nvme0n1", empty when there is none
  std::string device_model;  // from sysfs, empty when unknown
  bool rotational = false;
  std::string scheduler;               // "none", "mq-deadline", ... empty when unknown
  int numa_node = -1;                  // -1 = unknown or none
  std::uint32_t memory_alignment = 0;  // bytes, for O_DIRECT; 0 = no O_DIRECT
  std::uint32_t offset_alignment = 0;
  std::uint64_t free_bytes = 0;  // for an unprivileged user
  std::uint64_t size_bytes = 0;
  std::vector<Capability> capabilities;  // "directory writable", "O_DIRECT", "real disk"
};

// About a directory (an existing one; else the capability list says so).
SPILLWAY_API PathProbe probe_path(const std::filesystem::path& directory);

// NUMA node of a block device ("nvme0n1", "sda2", "dm-0") by sysfs, -1 when unknown. A device made
// of others (RAID, LVM, dm-crypt) or reached over several controllers: the node they all are on.
SPILLWAY_API int numa_node_of_device(const std::string& name,
                                     const std::filesystem::path& sysfs = "/sys");

}  // namespace spillway::aio
