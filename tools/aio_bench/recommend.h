// Recommendation: the setting to use, and the reason.
#pragma once

#include <string>
#include <vector>

#include "figures.h"

namespace spillway::aio_bench {

// As good as the best: within 3% of it, or within the noise: how far two medians of a
// finalist's passes may differ, 0.75 x spread / sqrt(passes), the median of all finalists'. (The
// standard error of their difference, the spread being that of normal passes.) Noise above 10%
// cannot tell good settings from bad ones, so no more is forgiven.
inline constexpr double kAsGood = 0.03, kMostAsGood = 0.10;

struct Recommendation {
  Setting setting;
  Setting best;
  Workload ranked_by = Workload::kMix;
  double gb_per_second = 0;       // of `setting`, in that workload
  double best_gb_per_second = 0;  // of `best`
  double spread = 0;              // (fastest - slowest) / median, the larger of the two
  double as_good = kAsGood;       // settings that differ by less are taken as equal
  double noise = 0;               // what as_good would be without its limits

  bool too_noisy() const { return noise > kMostAsGood; }
};

// Returns the finalist with the fewest bytes in flight of those as good as the fastest in the
// ranking workload. REQUIRES: a finalist of that workload.
Recommendation recommend(const std::vector<CellResult>& results, Workload ranked_by);

// One or two sentences. `read_percent`: of the mix.
std::string reason_of(const Recommendation& found, int read_percent);

}  // namespace spillway::aio_bench
