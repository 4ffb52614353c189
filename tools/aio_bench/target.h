// Target: the drive to measure, or several drives as one in stripes.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/probe.h>
#include <filesystem>
#include <string>
#include <vector>

namespace spillway::aio_bench {

struct Target {
  std::vector<std::filesystem::path> directories;
  std::vector<aio::PathProbe> probes;  // one a directory

  static Target of(const std::vector<std::filesystem::path>& directories);
  bool striped() const { return directories.size() > 1; }
  // "/mnt/nvme0", "/mnt/nvme0 + /mnt/nvme1".
  std::string name() const;
  // Returns the names of the drives in a configuration.
  std::string device() const;
  std::string filesystem() const;
  std::uint64_t free_bytes() const;  // for a file that is striped evenly
};

// Checks that the directories can be measured; else one line with the reason.
Result<void> can_measure(const Target& target);

}  // namespace spillway::aio_bench
