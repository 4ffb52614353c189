// FreeSpace: the room that files in one directory can take, and which directories share it.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <cstdint>
#include <filesystem>

namespace spillway::aio {

struct FreeSpace {
  // Of the directory itself: on XFS and ext4 less than the filesystem's where the directory's
  // project has a limit (a project quota). A quota of a user or a group is not seen.
  std::uint64_t free_bytes = 0;
  // Of the filesystem, as its mount point tells; at least `free_bytes`.
  std::uint64_t filesystem_free_bytes = 0;
  // The mounted device. Equal for directories that share one filesystem: for the subvolumes of a
  // btrfs too, whose files have a device number each.
  std::uint64_t filesystem = 0;
  // The project that new files of the directory belong to; 0: none. One project of one filesystem
  // has one limit.
  std::uint32_t project = 0;
};

// Asks statvfs, the directory's project and /proc/self/mountinfo. Blocks. Errors: what stat and
// statvfs answer.
SPILLWAY_API Result<FreeSpace> free_space(const std::filesystem::path& directory);

}  // namespace spillway::aio
