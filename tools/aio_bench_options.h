// What the command line of aio_bench asks for.
#pragma once

#include <spillway/aio/engine.h>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace spillway::aio_bench {

struct Options {
  std::filesystem::path directory = {};
  std::string direction = "both";  // "read", "write" or "both"
  std::vector<std::uint32_t> block_sizes = {};
  std::vector<std::uint32_t> queue_depths = {};
  std::vector<std::uint32_t> thread_counts = {1};
  std::uint64_t file_bytes = 0;
  int repetitions = 5;
  bool quick = false;
  aio::BackendKind backend = aio::BackendKind::kAuto;
  std::filesystem::path json_file = {};  // empty: none
};

// One combination of the sweep.
struct Cell {
  aio::Direction direction = aio::Direction::kRead;
  std::uint32_t block_size_bytes = 0;
  std::uint32_t queue_depth = 0;
  std::uint32_t thread_count = 0;

  std::uint64_t in_flight_bytes() const {
    return std::uint64_t{block_size_bytes} * queue_depth * thread_count;
  }
};

// Reads the command line. Empty, with `exit_code` set and the help or one line printed, when there
// is nothing to run.
std::optional<Options> parse_options(int argc, char** argv, int& exit_code);

// All cells of the sweep, reads before writes.
std::vector<Cell> cells_of(const Options& options);

// "128K", "1M": as the command line takes them.
std::string short_size(std::uint64_t bytes);

}  // namespace spillway::aio_bench
