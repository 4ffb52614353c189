// Comparison: the changes between two results, beyond the noise between passes.
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
  double noise = 0;  // relative: a smaller change is not significant

  double change() const { return after_gb_per_second / before_gb_per_second - 1; }
  bool slower() const { return change() < -noise; }
  bool faster() const { return change() > noise; }
};

// Compares the cells that both have. The noise is the spread of a cell's passes in both results
// together, at least 3%; a cell with fewer than three passes has the widest spread of the others.
std::vector<CellChange> changes_between(const StoredTarget& before, const StoredTarget& after);

// Prints the changes. Returns the exit code: 0 nothing got slower beyond noise, 1 something did,
// 2 the files cannot be compared (one line to stderr).
int compare_files(const std::filesystem::path& before, const std::filesystem::path& after);

}  // namespace spillway::aio_bench
