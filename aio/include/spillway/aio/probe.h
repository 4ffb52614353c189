// Probes: which I/O this machine allows, and the exact reason for each refusal.
//
// Each call asks the kernel; nothing is cached. A directory is probed with an unnamed file, so no
// file is left. Blocks for milliseconds. Threads: any.
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
  std::string reason = {};  // the finding; if not available, the cause
  std::string fix = {};     // the remedy; empty if available or if there is none
};

// Probes io_uring, SINGLE_ISSUER + DEFER_TASKRUN, registered buffers and files.
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

// Probes a directory. If it does not exist, the list of capabilities says so.
SPILLWAY_API PathProbe probe_path(const std::filesystem::path& directory);

// Returns the NUMA node of a block device ("nvme0n1", "sda2", "dm-0") by sysfs, -1 if unknown. For
// a device of several parts (RAID, LVM, dm-crypt) or controllers: the node that all of them share.
SPILLWAY_API int numa_node_of_device(const std::string& name,
                                     const std::filesystem::path& sysfs = "/sys");

}  // namespace spillway::aio
