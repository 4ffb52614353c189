// What backward's data takes, by formula: activations that wait between units, gradients that wait
// for the update. The trainer decides and accounts by these, and an estimate predicts by them.
#pragma once

#include <spillway/trainer/config_types.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace spillway::trainer {

// Bytes in each place, of one rank.
struct WaitingBytes {
  std::uint64_t computing = 0;  // where the units compute: device memory, RAM without a GPU
  std::uint64_t ram = 0;        // page-locked: the data itself
  std::uint64_t buffers = 0;    // page-locked: what moves it to and from NVMe
  std::uint64_t nvme = 0;
};

// Activations are moved in tiles of this many bytes; so many buffers at least and at most.
inline constexpr std::uint64_t kActivationTileBytes = std::uint64_t{2} << 20;
inline constexpr std::uint64_t kMinActivationBuffers = 4;
inline constexpr std::uint64_t kMaxActivationBuffers = 64;

struct ActivationSizes {
  // Of each that waits, in the order of forward: rank's samples x tokens x width x bytes an
  // element. All wait at once.
  std::vector<std::uint64_t> bytes;
  // With checkpointing off: what the graph that made one keeps for the rank's samples.
  std::uint64_t graph_bytes = 0;

  std::uint64_t largest() const { return bytes.empty() ? 0 : *std::ranges::max_element(bytes); }
};
// With checkpointing: one activation where the units compute, the others where the configuration
// puts them; each of those is written once and read once a step. Without: every unit's graph.
// The output and the gradients of the unit that runs are beside this.
WaitingBytes activation_bytes(const ActivationConfig& config, const ActivationSizes& sizes);
// Buffers that move activations of `bytes` each: one whole is read ahead while one is computed on.
std::uint64_t activation_buffers(std::uint64_t bytes);

// Operations a parameter and token: 2 forward, 4 backward, 2 to compute the forward again.
inline double flops_per_parameter_and_token(const ActivationConfig& config) {
  return config.checkpointing ? 8 : 6;
}

inline constexpr std::uint64_t kGradientBuffers = 4;  // that write, and as many that read

struct GradientSizes {
  std::uint64_t elements = 0;       // trainable, of this rank, padding included
  std::uint64_t largest_unit = 0;   // elements of the largest unit, all ranks' parts
  std::uint64_t largest_tile = 0;   // elements
  std::uint64_t weights_bytes = 0;  // of the units that run: they are still to come
};
struct GradientPlan {
  OffloadDevice device = OffloadDevice::kCpu;  // kCpu: in RAM, or with the optimizer's states
  WaitingBytes bytes;
  std::string reason;  // why on NVMe: "2.0 GiB do not fit into ..."
};
// In RAM unless the configuration says NVMe, or leaves it open and the gradients, the sums and
// weights of the largest unit take more than three quarters of `free_bytes` (the last quarter is
// for activations and kernels). RLIMIT_MEMLOCK does not decide: gradients that cannot be locked are
// held unlocked.
GradientPlan plan_gradients(const GradientConfig& config, const GradientSizes& sizes,
                            std::uint64_t free_bytes);

}  // namespace spillway::trainer
