// Recommendation: the setting to use, and the reason.
#pragma once

#include <string>
#include <vector>

#include "figures.h"

namespace spillway::aio_bench {

// As good as the best: within 3% of it.
inline constexpr double kAsGood = 0.03;

struct Recommendation {
  Setting setting;
  Setting best;
  Workload ranked_by = Workload::kMix;
  double gb_per_second = 0;       // of `setting`, in that workload
  double best_gb_per_second = 0;  // of `best`
  double spread = 0;              // (fastest - slowest) / median, the larger of the two
};

// Returns the finalist with the fewest bytes in flight of those within 3% of the fastest in the
// ranking workload. REQUIRES: a finalist of that workload.
Recommendation recommend(const std::vector<CellResult>& results, Workload ranked_by);

// One or two sentences. `read_percent`: of the mix.
std::string reason_of(const Recommendation& found, int read_percent);

}  // namespace spillway::aio_bench
