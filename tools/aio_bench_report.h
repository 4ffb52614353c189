// What aio_bench found, for people and for programs.
#pragma once

#include <spillway/aio/probe.h>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "aio_bench_options.h"
#include "aio_bench_pass.h"

namespace spillway::aio_bench {

struct CellResult {
  Cell cell;
  std::vector<Measurement> repetitions;

  double median_gb_per_second() const;
  double slowest_gb_per_second() const;
  double fastest_gb_per_second() const;
  double cpu_seconds_per_gb() const;
  double cpu_percent() const;  // of one processor
  double system_calls_per_gb() const;
};

// The setting to use: of those within 3% of the best, the one with the least in flight. Where both
// directions were measured a setting counts by the time for as many bytes read as written, which
// is what an optimizer step moves.
struct Recommendation {
  Cell cell;  // its direction means nothing
  Cell best;
  double gb_per_second = 0;
  double best_gb_per_second = 0;
  double swing = 0;  // (fastest - slowest) / median, the larger of the two settings'
};
Recommendation recommend(const std::vector<CellResult>& results);

// The DeepSpeed-style section.
nlohmann::ordered_json aio_block(const Cell& cell);

void print_card(const Options& options, const aio::PathProbe& probe, const EngineTrial& engine);
void print_table(const std::vector<CellResult>& results);
void print_recommendation(const Recommendation& recommendation);

// Everything, as JSON. Replaces `path` in one step.
Result<void> write_json(const std::filesystem::path& path, const Options& options,
                        const aio::PathProbe& probe, const EngineTrial& engine,
                        const std::vector<CellResult>& results,
                        const Recommendation& recommendation);

}  // namespace spillway::aio_bench
