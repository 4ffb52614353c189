// What changed between two results, beyond what changes from pass to pass anyway.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "result_json.h"

namespace spillway::aio_bench {

struct CellChange {
  Workload workload = Workload::kMix;
  Setting setting;
  double before_gb_per_second = 0;
  double after_gb_per_second = 0;
  double noise = 0;  // relative: a smaller change says nothing

  double change() const { return after_gb_per_second / before_gb_per_second - 1; }
  bool slower() const { return change() < -noise; }
  bool faster() const { return change() > noise; }
};

// The cells that both have. Noise is what the passes of the cell spread over in both results
// together, at least 3%; a cell with fewer than three passes takes the widest spread of the others.
std::vector<CellChange> changes_between(const StoredTarget& before, const StoredTarget& after);

// Prints what changed. Returns the exit code: 0 nothing got slower beyond noise, 1 something did,
// 2 the files cannot be compared (one line to stderr).
int compare_files(const std::filesystem::path& before, const std::filesystem::path& after);

}  // namespace spillway::aio_bench
