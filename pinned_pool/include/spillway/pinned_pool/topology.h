// Topology: the CPUs and the NUMA node near a drive, by hwloc and sysfs.
//
// On a machine of several nodes, I/O threads, their rings and buffers should be on the drive's
// node: each byte that crosses the link between nodes costs bandwidth that the computation needs.
// Immutable after loading. Threads: any.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/aio/export.h>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace spillway::pinned_pool {

class SPILLWAY_API Topology {
 public:
  // Loads this machine, limited to what this process may use (cgroup, affinity). kUnsupported if
  // hwloc fails.
  static Result<Topology> load();
  // Makes an imaginary machine from hwloc's notation: "numa:2 core:2 pu:1". kInvalid if
  // `description` does not parse.
  static Result<Topology> from_synthetic(const std::string& description);

  Topology(Topology&&) noexcept;
  Topology& operator=(Topology&&) noexcept;
  ~Topology();

  // Returns the numbers of the nodes as in sysfs, ascending; at least one.
  const std::vector<int>& nodes() const noexcept;
  // Returns the CPUs of a node that this process may use, ascending; empty for an unknown node.
  std::vector<int> cpus_of_node(int numa_node) const;
  // Returns the node of a block device ("nvme0n1"), -1 if unknown or not in this topology.
  int node_of_device(const std::string& device, const std::filesystem::path& sysfs = "/sys") const;

 private:
  struct SPILLWAY_LOCAL State;
  explicit Topology(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// IoPlacement: the NUMA node and CPUs for the I/O of some drives, for SlabOptions, PoolOptions and
// EngineOptions.
struct IoPlacement {
  int numa_node = -1;          // -1: the kernel's choice
  std::vector<int> cpus = {};  // of that node; empty: any
  std::string reason = {};     // "2 of 3 drives are on node 1", "1 node: nothing to place", ...
};

// Returns the node of most of the devices (the lowest number on a tie), if this process may use
// CPUs there.
SPILLWAY_API IoPlacement place_io(const Topology& topology, std::span<const std::string> devices,
                                  const std::filesystem::path& sysfs = "/sys");
// As above, for the drives of directories of this machine. Blocks for milliseconds.
SPILLWAY_API IoPlacement place_io(std::span<const std::filesystem::path> directories);

}  // namespace spillway::pinned_pool
