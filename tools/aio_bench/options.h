// Options: the command line of aio_bench.
#pragma once

#include <spillway/aio/engine.h>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cell.h"

namespace spillway::aio_bench {

struct Options {
  std::vector<std::filesystem::path> directories = {};  // one a drive
  std::vector<Workload> workloads = {};
  std::vector<std::uint32_t> block_sizes = {};
  std::vector<std::uint32_t> queue_depths = {};
  std::vector<std::uint32_t> thread_counts = {};
  bool settings_given = false;   // by the user: none is skipped to save time
  std::uint64_t file_bytes = 0;  // of the test file; 0, not given: as fits the drive and the time
  int repetitions = 0;
  double seconds = 0;  // for one target; without meaning when exhaustive
  int read_percent = 50;
  bool quick = false;
  bool exhaustive = false;
  bool verify = false;
  bool fio = false;
  aio::BackendKind backend = aio::BackendKind::kAuto;
  std::filesystem::path json_file = {}, svg_file = {}, config_file = {};  // empty: none
  // Two results to compare, instead of measuring.
  std::vector<std::filesystem::path> compare = {};
};

// No setting has more bytes in flight, unless the user asks for it.
inline constexpr std::uint64_t kMostInFlight = 128 << 20;
// The file must be much longer than the bytes in flight, or every pass moves the same bytes.
inline constexpr std::uint64_t kFileBytesPerByteInFlight = 4;

// Reads the command line. If there is nothing to run, it prints the help or one line, sets
// `exit_code` and returns nothing.
std::optional<Options> parse_options(int argc, char** argv, int& exit_code);

// Returns all settings to try.
std::vector<Setting> settings_of(const Options& options);

}  // namespace spillway::aio_bench
