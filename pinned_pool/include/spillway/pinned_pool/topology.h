// Topology: which CPUs and which NUMA node are near a drive, by hwloc and sysfs.
//
// On a machine of several nodes, I/O threads, their rings and the buffers belong on the node that
// the drive hangs off: every byte that crosses the link between the nodes costs bandwidth that the
// compute wants. Immutable after loading: any thread.
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
  // This machine, as far as this process may use it (cgroup, affinity). kUnsupported when hwloc
  // cannot tell.
  static Result<Topology> load();
  // A machine that is not there, in hwloc's notation: "numa:2 core:2 pu:1". kInvalid when that is
  // no such description.
  static Result<Topology> from_synthetic(const std::string& description);

  Topology(Topology&&) noexcept;
  Topology& operator=(Topology&&) noexcept;
  ~Topology();

  // Numbers of the nodes as in sysfs, rising; at least one.
  const std::vector<int>& nodes() const noexcept;
  // Rising; empty for a node that does not exist or has no CPU that this process may use.
  std::vector<int> cpus_of_node(int numa_node) const;
  // Node of a block device ("nvme0n1"), -1 when unknown or not in this topology.
  int node_of_device(const std::string& device, const std::filesystem::path& sysfs = "/sys") const;

 private:
  struct SPILLWAY_LOCAL State;
  explicit Topology(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Where I/O on some drives belongs: for SlabOptions, PoolOptions and EngineOptions.
struct IoPlacement {
  int numa_node = -1;          // -1: wherever the kernel puts it
  std::vector<int> cpus = {};  // of that node; empty: any
  std::string reason = {};     // "2 of 3 drives are on node 1", "1 node: nothing to place", ...
};

// The node that most of the devices hang off (the lowest number of several), as long as this
// process may use CPUs there.
SPILLWAY_API IoPlacement place_io(const Topology& topology, std::span<const std::string> devices,
                                  const std::filesystem::path& sysfs = "/sys");
// The same for the drives below directories of this machine. Blocks for milliseconds.
SPILLWAY_API IoPlacement place_io(std::span<const std::filesystem::path> directories);

}  // namespace spillway::pinned_pool
