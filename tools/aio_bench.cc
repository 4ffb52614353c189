// aio_bench: how fast the Engine moves bytes on a directory's disk, for every block size, depth and
// number of threads asked for, and which of them to use.
#include <fmt/format.h>
#include <unistd.h>

#include <spillway/aio/probe.h>
#include <spillway/pinned_pool/limits.h>
#include <cerrno>

#include "aio_bench_options.h"
#include "aio_bench_pass.h"
#include "aio_bench_report.h"

namespace spillway::aio_bench {
namespace {

// A reason not to start, from what is known of the directory.
Result<void> can_measure(const Options& options, const aio::PathProbe& probe) {
  const std::string path = options.directory.string();
  if (probe.filesystem == "tmpfs" || probe.filesystem == "ramfs") {
    return make_error(ErrorKind::kUnsupported, "measure", path,
                      probe.filesystem + " is memory, no disk: name a directory on a disk");
  }
  for (const aio::Capability& capability : probe.capabilities) {
    if (capability.available || capability.name == "real disk") continue;
    return make_error(ErrorKind::kUnsupported, "measure", path,
                      capability.name + ": no (" + capability.reason + ")");
  }
  if (probe.free_bytes < options.file_bytes) {
    return make_error(ErrorKind::kNoSpace, "measure", path,
                      fmt::format("{} are free, the test file needs {}: give a smaller --file-size "
                                  "or another directory",
                                  pinned_pool::format_bytes(probe.free_bytes),
                                  pinned_pool::format_bytes(options.file_bytes)));
  }
  if (options.json_file.empty()) return {};
  const auto json_directory = std::filesystem::absolute(options.json_file).parent_path();
  if (access(json_directory.c_str(), W_OK) != 0) {
    return errno_error("write", options.json_file.string(), errno);
  }
  return {};
}

// One line that is written over, on a terminal only.
void show_progress(const std::string& text) {
  if (isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r\x1b[K{}", text);
}

Result<Measurement> fill_or_verify(TestFile& test, aio::Direction direction,
                                   const Options& options) {
  const Cell cell{direction, 1 << 20, 8, 1};
  return run_pass(test, cell, options.backend, Check::kAll);
}

// Round after round over all cells, so that what changes on the machine in the meantime touches
// all of them alike.
Result<std::vector<CellResult>> sweep(TestFile& test, const Options& options) {
  std::vector<CellResult> results;
  for (const Cell& cell : cells_of(options)) results.push_back({cell, {}});
  for (int round = 1; round <= options.repetitions; ++round) {
    for (std::size_t i = 0; i < results.size(); ++i) {
      show_progress(fmt::format("round {} of {}, cell {} of {}", round, options.repetitions, i + 1,
                                results.size()));
      auto measured = run_pass(test, results[i].cell, options.backend, Check::kStamps);
      if (!measured) return tl::unexpected(measured.error());
      results[i].repetitions.push_back(*measured);
    }
  }
  return results;
}

Result<void> run(const Options& options) {
  const aio::PathProbe probe = aio::probe_path(options.directory);
  if (auto possible = can_measure(options, probe); !possible) return possible;
  auto engine = try_engine(options.backend);
  if (!engine) return tl::unexpected(engine.error());
  print_card(options, probe, *engine);
  auto test = TestFile::create(options.directory, options.file_bytes);
  if (!test) return tl::unexpected(test.error());
  show_progress("writing the test file");
  auto filled = fill_or_verify(*test, aio::Direction::kWrite, options);
  if (!filled) return tl::unexpected(filled.error());
  auto results = sweep(*test, options);
  if (!results) return tl::unexpected(results.error());
  show_progress("checking every byte of the test file");
  if (auto sound = fill_or_verify(*test, aio::Direction::kRead, options); !sound) {
    return tl::unexpected(sound.error());
  }
  show_progress("");
  print_table(*results);
  const Recommendation recommendation = recommend(*results);
  print_recommendation(recommendation);
  if (options.json_file.empty()) return {};
  return write_json(options.json_file, options, probe, *engine, *results, recommendation);
}

}  // namespace
}  // namespace spillway::aio_bench

int main(int argc, char** argv) {
  int exit_code = 0;
  const auto options = spillway::aio_bench::parse_options(argc, argv, exit_code);
  if (!options) return exit_code;
  if (auto done = spillway::aio_bench::run(*options); !done) {
    spillway::aio_bench::show_progress("");
    fmt::print(stderr, "aio_bench: {}\n", done.error().message());
    return 1;
  }
  return 0;
}
