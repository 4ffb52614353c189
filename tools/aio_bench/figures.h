// Figures: single passes, and their medians.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cell.h"

namespace spillway::aio_bench {

struct Measurement {
  double seconds = 0;
  double cpu_seconds = 0;  // user and system, all threads, with the check of the bytes read
  std::uint64_t read_bytes = 0;
  std::uint64_t written_bytes = 0;
  std::uint64_t system_calls = 0;  // of the engine
  double p50_us = 0;               // of an operation, from submission to completion; 0 = unknown
  double p99_us = 0;

  double gb() const { return static_cast<double>(read_bytes + written_bytes) / 1e9; }
  double gb_per_second() const { return gb() / seconds; }
};

struct CellResult {
  Workload workload = Workload::kRead;
  Setting setting;
  std::vector<Measurement> repetitions = {};
  bool finalist = false;  // measured to the end: its median counts
  int outliers = 0;       // passes that were dropped, because more passes disagreed with them

  double gb_per_second() const;  // the median, like the others
  double cpu_seconds_per_gb() const;
  double cpu_percent() const;  // of one processor
  double system_calls_per_gb() const;
  double p50_us() const;
  double p99_us() const;
  double slowest_gb_per_second() const;
  double fastest_gb_per_second() const;
  double spread() const;  // (fastest - slowest) / median
};

// Returns the number of the one pass that is far from all others, which agree; nothing if there is
// none, or fewer than three passes.
std::optional<std::size_t> lone_outlier(const std::vector<Measurement>& repetitions);

// Three digits: "12.3", "2.34", "0.0201".
std::string rate_text(double gb_per_second);

// REQUIRES: not empty.
double median(std::vector<double> values);

// Returns the result of a cell; nullptr if it was not measured.
const CellResult* find(const std::vector<CellResult>& results, Workload workload,
                       const Setting& setting);
CellResult* find(std::vector<CellResult>& results, Workload workload, const Setting& setting);

}  // namespace spillway::aio_bench
