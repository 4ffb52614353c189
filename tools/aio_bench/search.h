// Search: chooses the settings to measure, and for how long: successive halving (Jamieson,
// Talwalkar: Non-stochastic best arm identification and hyperparameter optimization, AISTATS 2016),
// or all of them.
//
// Every setting gets a short pass of the trainer's mix, the better third a longer one, and a few
// finalists all workloads, in rounds, so that a change of the machine affects all alike. A setting
// with less in flight is preferred to one that is faster only within the noise. A finalist's pass
// that is far from its others is measured again, and dropped if the others are confirmed. A pass
// that would exceed the time is not started.
#pragma once

#include <spillway/aio/error.h>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "cell.h"
#include "figures.h"

namespace spillway::aio_bench {

struct SearchOptions {
  std::vector<Setting> settings = {};
  std::vector<Workload> workloads = {Workload::kRead, Workload::kWrite, Workload::kMix};
  double seconds = 0;       // until the search must be over; without meaning when exhaustive
  double pass_seconds = 0;  // the longest pass; the only one when exhaustive
  int repetitions = 5;      // of a finalist, at most
  bool exhaustive = false;
};

// The environment of the search, which tests replace by a simulated drive.
struct SearchWorld {
  // One pass of about so many seconds.
  std::function<Result<Measurement>(Workload, const Setting&, double seconds)> measure;
  // Since the search began.
  std::function<double()> seconds_used;
  // Before each pass: what is done, and the seconds that are left in all.
  std::function<void(const std::string& what, double seconds_left)> progress;
};

// Returns the workload that ranks settings: the mix, if it is measured.
Workload ranking_workload(const std::vector<Workload>& workloads);

// Measures; returns the cells in the order of `settings`, with the finalists marked. At least one
// setting is measured with every workload, however short the time.
Result<std::vector<CellResult>> search(const SearchOptions& options, const SearchWorld& world);

// Returns the `count` settings of one workload's results for the next round: in turn the next
// fastest, and the smallest within `margin` of the best, within twice that, and within half of it.
std::vector<Setting> survivors(const std::vector<CellResult>& results, std::size_t count,
                               double margin);

}  // namespace spillway::aio_bench
