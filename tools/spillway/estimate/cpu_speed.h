// What this CPU reaches, measured in about two seconds on all cores that training would use.
#pragma once

#include <spillway/trainer/estimate.h>
#include <spillway/trainer/model.h>

#include <cstdint>

namespace spillway::tools {

struct CpuSpeed {
  double flops = 0;         // of forward and backward of the model's own units; 0: unknown
  double update_bytes = 0;  // per second: memory traffic of the update's kernel
  double hash_bytes = 0;    // per second: checksums of blocks
  // Working memory of a unit for a micro-batch, of what the estimate's formula says; 0: unknown.
  double compute_scale = 0;
  std::uint64_t program_bytes = 0;  // what the program itself holds, libraries and kernels loaded
};

// The model's units that take the time, forward and backward, on samples (a micro-batch, or as
// much of one as takes half a second), the update on tiles out of cache, BlockHash. Blocks;
// whatever else runs on the machine makes it slower than it is.
CpuSpeed measure_cpu(const trainer::EstimateInput& input, const trainer::ModelConfig& model);

}  // namespace spillway::tools
