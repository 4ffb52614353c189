#include "spillway/pinned_pool/topology.h"

#include <spillway/aio/probe.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <utility>

#include "hwloc_handles.h"

namespace spillway::pinned_pool {

struct Topology::State {
  HwlocTopology topology;
  std::vector<int> nodes;
  HwlocBitmap allowed;  // CPUs of this process's affinity; empty pointer: all
};

namespace {

constexpr const char* kOperation = "load the topology";

Result<HwlocTopology> load_topology(const char* synthetic) {
  hwloc_topology_t made = nullptr;
  if (hwloc_topology_init(&made) != 0) return errno_error(kOperation, "", errno);
  HwlocTopology topology(made);
  if (synthetic != nullptr && hwloc_topology_set_synthetic(made, synthetic) != 0) {
    return make_error(ErrorKind::kInvalid, kOperation, "",
                      "hwloc does not understand '" + std::string(synthetic) + "'");
  }
  // Caches are the slow part. Not all but nodes can be left out: a node whose package or group is
  // gone moves up to the machine, and then seems to have every CPU.
  hwloc_topology_set_cache_types_filter(made, HWLOC_TYPE_FILTER_KEEP_NONE);
  if (hwloc_topology_load(made) != 0) {
    return make_error(ErrorKind::kUnsupported, kOperation, "", "hwloc cannot read this machine");
  }
  return topology;
}

hwloc_obj_t node_object(hwloc_topology_t topology, int numa_node) {
  if (numa_node < 0) return nullptr;
  return hwloc_get_numanode_obj_by_os_index(topology, static_cast<unsigned>(numa_node));
}

std::vector<int> all_nodes(hwloc_topology_t topology) {
  std::vector<int> nodes;
  const hwloc_const_nodeset_t set = hwloc_topology_get_topology_nodeset(topology);
  for (int node = hwloc_bitmap_first(set); node >= 0; node = hwloc_bitmap_next(set, node)) {
    nodes.push_back(node);
  }
  return nodes;
}

}  // namespace

Topology::Topology(std::unique_ptr<State> state) : state_(std::move(state)) {}
Topology::Topology(Topology&&) noexcept = default;
Topology& Topology::operator=(Topology&&) noexcept = default;
Topology::~Topology() = default;

Result<Topology> Topology::load() {
  auto topology = load_topology(nullptr);
  if (!topology) return tl::unexpected(std::move(topology.error()));
  auto state = std::make_unique<State>();
  state->topology = std::move(*topology);
  state->nodes = all_nodes(state->topology.get());
  // hwloc leaves out what a cgroup forbids; what taskset forbids it does not know. Where the
  // machine shown is not this one (HWLOC_SYNTHETIC), there is no affinity to ask for.
  HwlocBitmap allowed(hwloc_bitmap_alloc());
  if (hwloc_topology_is_thissystem(state->topology.get()) != 0 &&
      hwloc_get_cpubind(state->topology.get(), allowed.get(), HWLOC_CPUBIND_PROCESS) == 0) {
    state->allowed = std::move(allowed);
  }
  return Topology(std::move(state));
}

Result<Topology> Topology::from_synthetic(const std::string& description) {
  auto topology = load_topology(description.c_str());
  if (!topology) return tl::unexpected(std::move(topology.error()));
  auto state = std::make_unique<State>();
  state->topology = std::move(*topology);
  state->nodes = all_nodes(state->topology.get());
  return Topology(std::move(state));
}

const std::vector<int>& Topology::nodes() const noexcept { return state_->nodes; }

std::vector<int> Topology::cpus_of_node(int numa_node) const {
  std::vector<int> cpus;
  const hwloc_obj_t node = node_object(state_->topology.get(), numa_node);
  if (node == nullptr || node->cpuset == nullptr) return cpus;
  const hwloc_const_cpuset_t set = node->cpuset;
  for (int cpu = hwloc_bitmap_first(set); cpu >= 0; cpu = hwloc_bitmap_next(set, cpu)) {
    const bool allowed = state_->allowed == nullptr ||
                         hwloc_bitmap_isset(state_->allowed.get(), static_cast<unsigned>(cpu)) != 0;
    if (allowed) cpus.push_back(cpu);
  }
  return cpus;
}

int Topology::node_of_device(const std::string& device, const std::filesystem::path& sysfs) const {
  const int node = aio::numa_node_of_device(device, sysfs);
  return node_object(state_->topology.get(), node) == nullptr ? -1 : node;
}

IoPlacement place_io(const Topology& topology, std::span<const std::string> devices,
                     const std::filesystem::path& sysfs) {
  if (topology.nodes().size() == 1) return {.reason = "1 node: nothing to place"};
  std::map<int, std::size_t> devices_of_node;
  for (const std::string& device : devices) {
    const int node = topology.node_of_device(device, sysfs);
    if (node >= 0) ++devices_of_node[node];
  }
  const auto best = std::ranges::max_element(
      devices_of_node, [](const auto& a, const auto& b) { return a.second < b.second; });
  if (best == devices_of_node.end()) {
    return {.reason = "the kernel does not say on which node the drives are"};
  }
  IoPlacement placement{.numa_node = best->first, .cpus = topology.cpus_of_node(best->first)};
  const std::string node = "node " + std::to_string(best->first);
  if (placement.cpus.empty()) {
    return {.reason = "the drives are on " + node + ", where this process may use no CPU"};
  }
  placement.reason = devices.size() == 1
                         ? "the drive is on " + node
                         : std::to_string(best->second) + " of " + std::to_string(devices.size()) +
                               " drives are on " + node;
  return placement;
}

IoPlacement place_io(std::span<const std::filesystem::path> directories) {
  const auto topology = Topology::load();
  if (!topology) return {.reason = topology.error().message()};
  std::vector<std::string> devices;
  for (const std::filesystem::path& directory : directories) {
    const std::filesystem::path device = aio::probe_path(directory).block_device;
    const std::string name = device.filename().string();
    if (std::ranges::find(devices, name) == devices.end()) devices.push_back(name);
  }
  return place_io(*topology, devices);
}

}  // namespace spillway::pinned_pool
