// What a finished training run shows: what lived where, what moved, who waited for whom.
#pragma once

#include <spillway/trainer/zero_engine.h>

#include <cstdint>
#include <vector>

#include "tools/spillway/train/options.h"

namespace spillway::tools {

// Sums over a run's steps, on this rank.
struct RunTotals {
  std::uint64_t steps = 0;
  std::uint64_t nvme_read_bytes = 0;
  std::uint64_t nvme_written_bytes = 0;
  double seconds = 0;
  double compute_seconds = 0;
  double io_wait_seconds = 0;

  void add(const trainer::StepReport& report);
  // What came after the last step: the end of its update.
  void add_rest(const trainer::StepReport& report);
};

// The table at the end of a run: tiers, bytes per step beside the theory, time, peak memory.
void print_summary(const TrainInputs& inputs, const trainer::ZeroEngine& engine,
                   const RunTotals& totals);

// Per tier what this rank holds, and the map parameter -> unit, tiles, ranks.
void print_memory_report(const TrainInputs& inputs, const trainer::ZeroEngine& engine);

}  // namespace spillway::tools
