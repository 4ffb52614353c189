// The checks behind `spillway doctor`, apart from their printing.
#pragma once

#include <spillway/aio/probe.h>
#include <spillway/pinned_pool/limits.h>
#include <filesystem>
#include <string>
#include <vector>

namespace spillway::tools {

struct CheckGroup {
  std::string title;  // "I/O", "disk /data", "memory", "device"
  std::vector<aio::Capability> capabilities;
};

// Asks the kernel, the filesystem of `directory` and the libraries. Changes nothing; blocks for
// milliseconds (longer where CUDA starts up).
std::vector<CheckGroup> check_machine(const std::filesystem::path& directory);

// Page-locked memory, the cgroup, huge pages: what the limits mean for a run.
std::vector<aio::Capability> check_memory(const pinned_pool::MemoryLimits& limits);

}  // namespace spillway::tools
