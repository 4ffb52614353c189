// step_time: how long a training step will take, by what limits it. Pure arithmetic on an Estimate
// and a machine's speeds.
//
// Each phase of a step (forward, backward, update) uses each resource for some time; a phase takes
// as long as its busiest one. In forward order the update is one phase with the forward that
// follows; its writes may trail into what backward leaves of the storage's time, its reads may not.
// Units that run on the CPU share its time with copies, gradient sums and the update. The bound is
// what all phases together would take with everything overlapped: the time of the busiest resource.
#pragma once

#include <spillway/trainer/estimate.h>
#include <array>
#include <cstddef>

namespace spillway::trainer {

// Per second; 0 where it is not known or not there.
struct MachineSpeeds {
  double flops = 0;                // of forward and backward, as really reached
  double read_bytes = 0;           // storage
  double write_bytes = 0;          // storage
  double mixed_bytes = 0;          // storage, both directions together, as many bytes each way
  double pcie_bytes = 0;           // each way, between RAM and the device; 0: units run on the CPU
  double device_memory_bytes = 0;  // of the device's own memory
  double update_bytes = 0;         // memory traffic of the fused update on the CPU
  double hash_bytes = 0;           // checksums on the CPU
};

enum class Resource { kCompute, kCpu, kStorage, kToDevice, kFromDevice };
inline constexpr std::size_t kResources = 5;
const char* name_of(Resource resource);  // "compute", "CPU", "NVMe", ...

// Seconds that one phase uses each resource.
struct PhaseTime {
  std::array<double, kResources> use{};

  double& operator[](Resource resource) { return use[static_cast<std::size_t>(resource)]; }
  double operator[](Resource resource) const { return use[static_cast<std::size_t>(resource)]; }
  PhaseTime& operator+=(const PhaseTime& other);
  // With everything in it overlapped; `one_processor`: compute and CPU are one resource.
  double seconds(bool one_processor) const;
};

struct StepTime {
  PhaseTime forward, backward, update;
  bool in_background = false;           // the update overlaps with the forward that follows
  bool during_backward = false;         // and with backward
  bool one_processor = true;            // units run on the CPU
  double seconds = 0;                   // phase after phase, each overlapped within itself
  double bound_seconds = 0;             // everything overlapped: no order of work is faster
  Resource limit = Resource::kCompute;  // what the bound is the time of
  double seconds_added = 0;             // seconds - bound_seconds: what the order of work costs
  bool storage_known = true;            // false: bytes move, but how fast is not known
};

// Multiplications and additions of a step on this rank: those of every use of a unit, forward once,
// again in backward when units are recomputed, and twice in backward. Attention's s^2 terms are not
// halved for a causal mask: the kernels do not skip it.
double step_flops(const EstimateInput& input);

// REQUIRES: speeds.flops and speeds.update_bytes known.
StepTime step_time(const EstimateInput& input, const Estimate& estimate,
                   const MachineSpeeds& speeds);

// Tokens a step from which on computing takes as long as the storage, by the same model: below,
// a larger batch costs no time but what it computes (T* of PERFORMANCE.md's lower bound: FLOPS / 8
// max(r/R, w/W), here with the mixed rate and attention). 0 when nothing moves.
double break_even_tokens(const EstimateInput& input, const StepTime& time);

// Memory traffic of the update for each parameter, bytes: every plane and the gradient read, every
// plane written (28 for bf16 training with fp32 moments).
double update_bytes_per_parameter(const Config& config);

}  // namespace spillway::trainer
