// estimate: what a training run holds in each tier and moves per step, before it is started.
//
// Pure arithmetic on the model's shape and the configuration: tiles are cut and planes padded as in
// training. All figures are of one rank, the largest. Working memory of the kernels ("compute") is
// an approximation; the rest is what the trainer allocates.
#pragma once

#include <spillway/trainer/config.h>
#include <spillway/trainer/model_shape.h>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace spillway::trainer {

struct EstimateInput {
  ModelShape model;
  Config config;
  std::uint32_t world_size = 1;
  bool on_gpu = false;        // device memory is apart from RAM
  std::uint32_t context = 0;  // tokens of a sample; 0: the model's context
  // What kernels really take of working memory, of what the formula says.
  double compute_scale = 1;
  std::uint64_t max_tile_elements = 0;  // of a tile; 0: as training cuts them
  // RAM for this rank, by which gradients may have to go to NVMe.
  std::uint64_t ram_bytes = std::numeric_limits<std::uint64_t>::max();

  std::uint64_t tokens_per_sample() const { return context > 0 ? context : model.context; }
};

// Bytes in each tier. Without a GPU `device` is 0 and what would lie there counts as `ram`.
struct TierBytes {
  std::uint64_t device = 0;
  std::uint64_t pinned = 0;  // page-locked RAM (as far as the limits allow it)
  std::uint64_t ram = 0;
  std::uint64_t nvme = 0;

  // Adds the bytes of `other`, tier by tier.
  TierBytes& operator+=(const TierBytes& other);
};

inline constexpr const char* kActivationsRow = "activations";
inline constexpr const char* kComputeRow = "compute (about)";
inline constexpr const char* kHeapRow = "heap (about)";

struct MemoryRow {
  std::string what;  // "parameters", "moments", "gradients", "activations", "buffers", ...
  TierBytes bytes;
};

// Bytes from and to NVMe in a step.
struct StepTraffic {
  double forward_read = 0;
  double backward_read = 0;
  double update_read = 0;
  double update_written = 0;
  double forward_written = 0;   // activations
  double backward_written = 0;  // gradients

  double read() const { return forward_read + backward_read + update_read; }
  double written() const { return forward_written + backward_written + update_written; }
};

struct Estimate {
  std::uint64_t parameters = 0;          // of the model
  std::uint64_t rank_elements = 0;       // this rank's part, padding included
  std::uint64_t trainable_elements = 0;  // of it, that the update moves
  std::uint64_t tokens_per_step = 0;     // all ranks
  double flops_per_step = 0;             // 8 per parameter and token, or 6 with nothing recomputed
  std::vector<MemoryRow> rows;
  TierBytes total;
  StepTraffic traffic;                 // bytes per step, padding included, cached share off
  std::uint64_t checkpoint_bytes = 0;  // of all ranks, without the indexes' text
  // What this rank has on NVMe, once: its swap files take as much more while one is copied.
  std::uint64_t generation_bytes = 0;
};

// Estimates a run: memory, storage, traffic and room, without running it.
Estimate estimate(const EstimateInput& input);

// Whether the update overlaps with the forward that follows it.
bool updates_in_background(const EstimateInput& input);

// Bytes per parameter and step with nothing cached and no padding, every read counted (training
// saves some: the last unit's weights serve forward and backward). bf16, by where (parameters,
// optimizer) lie, read + written:
//   (not nvme, not nvme)  0 + 0            (nvme, not nvme)  2 forward, 2 backward, 2 + 2 update
//   (not nvme, nvme)      10 + 10 update   (nvme, nvme)      2 forward, 2 backward, 12 + 12 update
// The update in forward order saves the 2 of forward.
StepTraffic traffic_per_parameter(const Config& config);

}  // namespace spillway::trainer
