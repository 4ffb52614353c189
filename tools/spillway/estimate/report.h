// What `spillway estimate` prints: for people, and for programs.
#pragma once

#include <spillway/trainer/estimate.h>

#include <string>
#include <vector>

#include "tools/spillway/estimate/deepspeed_memory.h"
#include "tools/spillway/estimate/plan.h"

namespace spillway::tools {

struct ReportOptions {
  std::string model;
  double rated_terabytes = 600;  // written, of the drive
  bool json = false;
  bool times = true;  // seconds a step were not declined
};

void print_plan(const ReportOptions& options, const Plan& plan, const Machine& machine);

// The largest that fits, or that nothing does.
void print_largest_batch(const ReportOptions& options, const std::optional<Plan>& plan,
                         const Machine& machine);
void print_largest_model(const ReportOptions& options, const LargestModel& largest,
                         const Machine& machine);

// DeepSpeed's table, and ours beside it for the same number of GPUs on one node.
struct OurRow {
  std::string offload_param, offload_optimizer;
  trainer::TierBytes held;  // of a rank, without activations and what computing needs
};
void print_deepspeed(const ReportOptions& options, const DeepspeedInput& input,
                     const std::vector<OurRow>& ours);

}  // namespace spillway::tools
