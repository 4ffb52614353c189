// Measures one target from the card to the recommendation.
#pragma once

#include <vector>

#include "options.h"
#include "progress.h"
#include "report.h"

namespace spillway::aio_bench {

// Prints the card, shows progress, measures and recommends. `speeds`: of the target's drives, in
// any unit, for the shares of a striped file. REQUIRES: can_measure(target).
Result<Report> measure_target(const Target& target, const std::vector<double>& speeds,
                              const Options& options, Progress& progress);

}  // namespace spillway::aio_bench
