#include "aio_bench_options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <map>
#include <span>

namespace spillway::aio_bench {
namespace {

constexpr const char* kFooter = R"(
Examples:
  aio_bench /mnt/nvme                            the whole sweep, a minute or two
  aio_bench /mnt/nvme --quick                    a first impression in seconds
  aio_bench /mnt/nvme --direction read --block-sizes 128K,1M --queue-depths 8,32,64
  aio_bench /mnt/nvme --threads 1,2 --json sweep.json

Sizes are powers of 1024: 128K, 1M, 2G. GB/s are 10^9 bytes a second. The test file has no name
while it is in use, so nothing is left behind however the program ends.)";

constexpr std::uint32_t kSmallestBlock = 4096;
constexpr std::uint32_t kLargestBlock = 64 << 20;
constexpr std::uint64_t kMiB = 1 << 20;

// The file must be long beside what is in flight, or a pass is all start and end.
constexpr std::uint64_t kFileBytesPerByteInFlight = 4;

void fill_in_defaults(Options& options) {
  if (options.block_sizes.empty()) {
    options.block_sizes = options.quick
                              ? std::vector<std::uint32_t>{128 << 10, 1 << 20}
                              : std::vector<std::uint32_t>{128 << 10, 512 << 10, 1 << 20, 4 << 20};
  }
  if (options.queue_depths.empty()) {
    options.queue_depths =
        options.quick ? std::vector<std::uint32_t>{8, 32} : std::vector<std::uint32_t>{1, 8, 32};
  }
  if (options.file_bytes > 0) return;
  options.file_bytes = (options.quick ? 256 : 1024) * kMiB;
  for (const Cell& cell : cells_of(options)) {
    options.file_bytes =
        std::max(options.file_bytes, kFileBytesPerByteInFlight * cell.in_flight_bytes());
  }
}

// What is wrong with the options together; empty when nothing is.
std::string find_mistake(const Options& options) {
  for (const std::uint32_t block : options.block_sizes) {
    if (!std::has_single_bit(block) || block < kSmallestBlock || block > kLargestBlock) {
      return fmt::format("--block-sizes: {} is no power of two from 4K to 64M", block);
    }
  }
  if (options.file_bytes % kSmallestBlock != 0) {
    return fmt::format("--file-size: {} is no multiple of 4K", options.file_bytes);
  }
  for (const Cell& cell : cells_of(options)) {
    const std::uint64_t needed = kFileBytesPerByteInFlight * cell.in_flight_bytes();
    if (needed > options.file_bytes) {
      return fmt::format(
          "--file-size: blocks of {} x depth {} x {} threads hold {} in flight, so the file must "
          "have at least {}",
          short_size(cell.block_size_bytes), cell.queue_depth, cell.thread_count,
          short_size(cell.in_flight_bytes()), short_size(needed));
    }
  }
  return "";
}

}  // namespace

std::string short_size(std::uint64_t bytes) {
  constexpr std::array kUnits = {"", "K", "M", "G", "T"};
  std::size_t unit = 0;
  while (bytes >= 1024 && bytes % 1024 == 0 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return std::to_string(bytes) + kUnits[unit];
}

std::vector<Cell> cells_of(const Options& options) {
  std::vector<Cell> cells;
  for (const aio::Direction direction : {aio::Direction::kRead, aio::Direction::kWrite}) {
    const char* name = direction == aio::Direction::kRead ? "read" : "write";
    if (options.direction != "both" && options.direction != name) continue;
    for (const std::uint32_t block : options.block_sizes) {
      for (const std::uint32_t depth : options.queue_depths) {
        for (const std::uint32_t threads : options.thread_counts) {
          cells.push_back({direction, block, depth, threads});
        }
      }
    }
  }
  return cells;
}

std::optional<Options> parse_options(int argc, char** argv, int& exit_code) {
  Options options;
  CLI::App app(
      "Measures how fast a directory's disk reads and writes, and recommends an aio block.",
      "aio_bench");
  app.footer(kFooter);
  const CLI::AsSizeValue as_size(/*kb_is_1000=*/false);
  const std::map<std::string, aio::BackendKind> backends = {
      {"auto", aio::BackendKind::kAuto},
      {"io_uring", aio::BackendKind::kIoUring},
      {"threads", aio::BackendKind::kThreadPool}};
  app.add_option("directory", options.directory, "An existing directory on the disk to measure")
      ->required();
  app.add_option("--direction", options.direction, "read, write or both (default)")
      ->check(CLI::IsMember({"read", "write", "both"}));
  app.add_option("--block-sizes", options.block_sizes, "Bytes of one operation: 128K,512K,1M,4M")
      ->delimiter(',')
      ->transform(as_size);
  app.add_option("--queue-depths", options.queue_depths, "Operations in flight a thread: 1,8,32")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096));
  app.add_option("--threads", options.thread_counts, "Engine threads: 1")
      ->delimiter(',')
      ->check(CLI::Range(1, 64));
  app.add_option("--file-size", options.file_bytes, "Size of the test file (1G, --quick: 256M)")
      ->transform(as_size);
  app.add_option("--repetitions", options.repetitions,
                 "Passes over the file a cell (5, --quick: 3)")
      ->check(CLI::Range(1, 1000));
  app.add_option("--backend", options.backend, "auto (default), io_uring or threads")
      ->transform(CLI::CheckedTransformer(backends));
  app.add_option("--json", options.json_file, "Write card, repetitions and recommendation there");
  app.add_flag("--quick", options.quick, "Fewer cells, a smaller file, fewer repetitions");
  try {
    app.parse(argc, argv);
    if (options.quick && app.count("--repetitions") == 0) options.repetitions = 3;
    fill_in_defaults(options);
    if (const std::string mistake = find_mistake(options); !mistake.empty()) {
      throw CLI::ValidationError(mistake, 2);
    }
    return options;
  } catch (const CLI::ParseError& error) {
    const bool is_mistake = error.get_exit_code() != 0;
    exit_code = is_mistake ? 2 : 0;
    if (is_mistake) {
      fmt::print(stderr, "aio_bench: {} (see aio_bench --help)\n", error.what());
    } else {
      app.exit(error);  // prints the help
    }
    return std::nullopt;
  }
}

}  // namespace spillway::aio_bench
