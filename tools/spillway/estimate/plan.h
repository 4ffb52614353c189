// One estimate with its time, and the searches over many: what to change first, what is the most
// that fits.
#pragma once

#include <spillway/trainer/estimate.h>
#include <spillway/trainer/model.h>
#include "trainer/plan/step_time.h"

#include <optional>
#include <string>
#include <vector>

#include "tools/spillway/estimate/machine.h"

namespace spillway::tools {

struct Plan {
  trainer::EstimateInput input;
  trainer::Estimate estimate;
  std::optional<trainer::StepTime> time;  // when the machine's speeds are known
  std::uint64_t ram_needed = 0;           // the program itself included, as far as it is known

  double tokens_per_second() const;
};

Plan make_plan(const trainer::EstimateInput& input, const Machine& machine);

// Room that checkpoints take, where it is said that there are any.
struct CheckpointRoom {
  std::uint64_t nvme_bytes = 0;  // of this rank, beside its swap files: links, or what is copied
  std::uint64_t directory_bytes = 0;  // of all ranks, on another filesystem
};
CheckpointRoom checkpoint_room(const Plan& plan, const Machine& machine);

// Why the plan does not fit this machine: a line each, empty when it does. What is not known fits.
std::vector<std::string> misfits(const Plan& plan, const Machine& machine);

struct Advice {
  std::string change;       // "train_batch_size 8 -> 64 (accumulation 16)"
  std::string why;          // "hides the I/O: T* = 41000 tokens"
  double times_faster = 1;  // tokens a second, by the same estimate
};

// Changes that the machine has room for and that make more tokens a second, the best first.
// REQUIRES: plan.time.
std::vector<Advice> advise(const Plan& plan, const Machine& machine);

// The largest batch that fits: batches grow by accumulation. Nothing when not even one fits.
std::optional<Plan> largest_batch(const trainer::EstimateInput& input, const Machine& machine);

// The largest model that fits, of the family's usual proportions, with the configuration as given.
struct LargestModel {
  std::optional<Plan> plan;   // nothing when not even the smallest fits
  trainer::SizedModel model;  // the one that fits, or the smallest
};
// kUnsupported for a family without usual proportions.
Result<LargestModel> largest_model(const trainer::ModelConfig& like,
                                   const trainer::EstimateInput& input, const Machine& machine);

}  // namespace spillway::tools
