// Measures one target from the card to the recommendation.
#pragma once

#include "options.h"
#include "progress.h"
#include "report.h"

namespace spillway::aio_bench {

// Prints the card, shows progress, measures and recommends. REQUIRES: can_measure(target).
Result<Report> measure_target(const Target& target, const Options& options, Progress& progress);

}  // namespace spillway::aio_bench
