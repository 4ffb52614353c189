// aio_bench: how fast the Engine moves bytes on a drive, for every block size, depth and number of
// threads, and which of them to use.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "atomic_file.h"
#include "compare.h"
#include "config_merge.h"
#include "fio.h"
#include "heat_map.h"
#include "interrupt.h"
#include "options.h"
#include "progress.h"
#include "result_json.h"
#include "run.h"
#include "table.h"
#include "tools/fio/fio_job.h"

namespace spillway::aio_bench {
namespace {

// Each drive alone, then all of them as one.
std::vector<Target> targets_of(const Options& options) {
  std::vector<Target> targets;
  for (const auto& directory : options.directories) targets.push_back(Target::of({directory}));
  if (targets.size() > 1) targets.push_back(Target::of(options.directories));
  return targets;
}

// Whether all can be measured and all results written: before the time is spent.
Result<void> can_run(const Options& options, const std::vector<Target>& targets) {
  for (const Target& target : targets) {
    if (auto possible = can_measure(target); !possible) return possible;
  }
  for (const auto& file : {options.json_file, options.svg_file}) {
    if (file.empty()) continue;
    if (auto possible = can_replace(file); !possible) return possible;
  }
  if (options.config_file.empty()) return {};
  return can_write_config(options.config_file);
}

void warn_of_one_drive(const Options& options, const Target& all) {
  std::set<std::string> drives;
  for (const aio::PathProbe& probe : all.probes) drives.insert(probe.block_device);
  if (drives.size() == options.directories.size()) return;
  fmt::print(stderr,
             "aio_bench: some of these directories are on the same drive: a stripe over them "
             "cannot be faster\n");
}

Result<void> write_results(const Options& options, const std::vector<Report>& reports) {
  if (!options.json_file.empty()) {
    auto done = replace_file(options.json_file, dumped(to_json(reports)) + "\n");
    if (!done) return done;
  }
  if (!options.svg_file.empty()) {
    if (auto done = replace_file(options.svg_file, heat_map(reports)); !done) return done;
  }
  if (options.config_file.empty()) return {};
  auto notes = write_config(options.config_file, aio_block(reports.back()));
  if (!notes) return tl::unexpected(notes.error());
  fmt::print("merged into {}\n", options.config_file.string());
  for (const std::string& note : *notes) fmt::print("  {}\n", note);
  return {};
}

Result<void> run(Options options) {
  Progress progress;
  const std::vector<Target> targets = targets_of(options);
  if (auto possible = can_run(options, targets); !possible) return possible;
  if (targets.size() > 1) warn_of_one_drive(options, targets.back());
  if (options.fio && fio::version().empty()) {
    fmt::print(stderr, "aio_bench: --fio: there is no fio on this machine (apt install fio)\n");
    options.fio = false;
  }
  std::vector<Report> reports;
  std::vector<double> speeds;  // of the drives alone
  for (const Target& target : targets) {
    auto report = measure_target(target, target.striped() ? speeds : std::vector<double>{1},
                                 options, progress);
    progress.clear();
    if (!report) return tl::unexpected(report.error());
    print_table(*report);
    print_fio(*report);
    print_recommendation(*report);
    if (&target != &targets.back()) fmt::print("\n");
    speeds.push_back(report->recommendation.best_gb_per_second);
    reports.push_back(std::move(*report));
  }
  return write_results(options, reports);
}

}  // namespace
}  // namespace spillway::aio_bench

int main(int argc, char** argv) {
  namespace bench = spillway::aio_bench;
  int exit_code = 0;
  const auto options = bench::parse_options(argc, argv, exit_code);
  if (!options) return exit_code;
  if (!options->compare.empty()) {
    return bench::compare_files(options->compare[0], options->compare[1]);
  }
  bench::watch_for_signals();
  const auto done = bench::run(*options);
  if (const int signal = bench::interrupted_by(); signal != 0 && !done) {
    fmt::print(stderr, "aio_bench: interrupted; the test file is gone\n");
    return 128 + signal;
  }
  if (done) return 0;
  fmt::print(stderr, "aio_bench: {}\n", done.error().message());
  return 1;
}
