// Which settings are measured, for how long: successive halving (Jamieson, Talwalkar:
// Non-stochastic best arm identification and hyperparameter optimization, AISTATS 2016), or all of
// them.
//
// Every setting gets a short look at the trainer's mix, the better third a longer one, and a few
// finalists all workloads, round after round, so that what changes on the machine meanwhile touches
// all alike. A setting that holds less in flight is kept before a larger one that is no faster than
// the noise. The time is kept: a pass that would not end in time is not begun.
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

// The world of the search, so that tests can run it on a simulated drive.
struct SearchWorld {
  // One pass of about so many seconds.
  std::function<Result<Measurement>(Workload, const Setting&, double seconds)> measure;
  // Since the search began.
  std::function<double()> seconds_used;
  // Before each pass: what is done, and the seconds that are left in all.
  std::function<void(const std::string& what, double seconds_left)> progress;
};

// The workload that settings are ranked by: the mix where it is measured.
Workload ranking_workload(const std::vector<Workload>& workloads);

// The cells measured, in the order of `settings`; the finalists are marked. At least one setting is
// measured with every workload, however short the time.
Result<std::vector<CellResult>> search(const SearchOptions& options, const SearchWorld& world);

// The `count` settings of one workload's results to go on with: turn by turn the next fastest, and
// the smallest that is within `margin` of the best, within twice that, and within half of it.
std::vector<Setting> survivors(const std::vector<CellResult>& results, std::size_t count,
                               double margin);

}  // namespace spillway::aio_bench
