#include "options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <map>

#include "thread_knob.h"

namespace spillway::aio_bench {
namespace {

constexpr const char* kDescription =
    "Measures how fast the drives under directories read and write through the engine, and says\n"
    "which \"aio\" block a configuration should have for them.";

constexpr const char* kFooter = R"(
Examples:
  aio_bench /mnt/nvme                               two minutes, and the block to use
  aio_bench /mnt/nvme --quick                       a first impression in 20 seconds
  aio_bench /mnt/nvme --write-config ds_config.json the block goes into the configuration
  aio_bench --path /mnt/nvme0 --path /mnt/nvme1     each drive, then striped over both
  aio_bench /mnt/nvme --json today.json --svg map.svg --fio
  aio_bench compare yesterday.json today.json       what changed beyond noise
  aio_bench /mnt/nvme --exhaustive --block-sizes 128K,1M --queue-depths 8,32 --threads 1,2

The mix is what an optimizer step does: as many bytes read as written, at one time, through one
engine; settings are ranked by it. Sizes are powers of 1024: 128K, 1M, 2G. GB/s are 10^9 bytes a
second. The test file has no name while it is in use: nothing is left behind, however the program
ends. --file-size, --exhaustive, --verify and --fio take the time they need on top of --time.

Exit codes: 0 done; 1 the drive, the directory or a file failed; 2 a mistake on the command line;
130, 143 ended by Ctrl-C, SIGTERM. compare: 0 nothing got slower beyond noise; 1 something did;
2 the files cannot be compared.)";

constexpr std::uint32_t kSmallestBlock = 4096;
constexpr std::uint32_t kLargestBlock = 64 << 20;
constexpr double kSeconds = 120, kQuickSeconds = 20;

using Sizes = std::vector<std::uint32_t>;

void fill_in_defaults(Options& options) {
  const bool quick = options.quick;
  options.settings_given = !options.block_sizes.empty() || !options.queue_depths.empty() ||
                           !options.thread_counts.empty();
  if (options.block_sizes.empty()) {
    options.block_sizes = quick ? Sizes{128 << 10, 512 << 10, 2 << 20}
                                : Sizes{128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20};
  }
  if (options.queue_depths.empty()) {
    options.queue_depths = quick ? Sizes{2, 8, 32} : Sizes{1, 2, 4, 8, 16, 32, 64};
  }
  if (options.thread_counts.empty()) options.thread_counts = quick ? Sizes{1} : Sizes{1, 2};
  if (options.workloads.empty()) {
    options.workloads = {Workload::kRead, Workload::kWrite, Workload::kMix};
  }
  if (options.repetitions == 0) options.repetitions = quick ? 3 : 5;
  if (options.seconds == 0) options.seconds = quick ? kQuickSeconds : kSeconds;
}

// What is wrong with the options together, all of it; empty when nothing is.
std::vector<std::string> find_mistakes(const Options& options, bool file_size_given) {
  std::vector<std::string> mistakes;
  if (options.directories.empty()) mistakes.push_back("a directory is required");
  for (const std::uint32_t block : options.block_sizes) {
    if (!std::has_single_bit(block) || block < kSmallestBlock || block > kLargestBlock) {
      mistakes.push_back(fmt::format("--block-sizes: {} is no power of two from 4K to 64M", block));
    }
  }
  if (!file_size_given) return mistakes;
  if (options.file_bytes % kSmallestBlock != 0 || options.file_bytes == 0) {
    mistakes.push_back(
        fmt::format("--file-size: {} is no multiple of 4K from 4K on", options.file_bytes));
  }
  if (!options.settings_given) return mistakes;
  const auto settings = settings_of(options);
  const Setting largest = *std::ranges::max_element(settings, {}, &Setting::in_flight_bytes);
  const std::uint64_t needed = kFileBytesPerByteInFlight * largest.in_flight_bytes();
  if (needed > options.file_bytes) {
    mistakes.push_back(
        fmt::format("--file-size: {} hold {} in flight, so the file must have at least {}",
                    text_of(largest), short_size(largest.in_flight_bytes()), short_size(needed)));
  }
  return mistakes;
}

void add_settings(CLI::App& app, Options& options, std::vector<std::string>& workloads) {
  const CLI::AsSizeValue as_size(/*kb_is_1000=*/false);
  app.add_option("--workloads", workloads, "Of read,write,mix (default: all)")
      ->delimiter(',')
      ->check(CLI::IsMember({"read", "write", "mix"}));
  app.add_option("--block-sizes", options.block_sizes,
                 "Bytes of one operation (128K,256K,512K,1M,2M,4M; --quick: 128K,512K,2M)")
      ->delimiter(',')
      ->transform(as_size);
  app.add_option("--queue-depths", options.queue_depths,
                 "Operations in flight a thread (1,2,4,8,16,32,64; --quick: 2,8,32)")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096));
  app.add_option("--threads,--intra_op_parallelism,--thread_count,--num_threads",
                 options.thread_counts,
                 "Engine threads (1,2; --quick: 1); DeepSpeed's three names are understood")
      ->delimiter(',')
      ->check(CLI::Range(1, 64));
  app.add_option("--read-percent", options.read_percent, "Reads in the mix (50: an optimizer step)")
      ->check(CLI::Range(1, 99));
  app.add_option("--backend", options.backend, "auto (default), io_uring or threads")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, aio::BackendKind>{{"auto", aio::BackendKind::kAuto},
                                                  {"io_uring", aio::BackendKind::kIoUring},
                                                  {"threads", aio::BackendKind::kThreadPool}}));
}

void add_measuring(CLI::App& app, Options& options) {
  const CLI::AsSizeValue as_size(/*kb_is_1000=*/false);
  app.add_flag("--quick", options.quick, "20 seconds: fewer settings, a smaller file");
  app.add_flag("--exhaustive", options.exhaustive,
               "Every setting and workload with all repetitions, instead of a search");
  app.add_option("--time", options.seconds,
                 "Seconds for a drive (120, --quick: 20), filling the file included")
      ->check(CLI::Range(2.0, 86400.0));
  app.add_option("--file-size", options.file_bytes,
                 "Size of the test file (4G, --quick: 1G, or what can be written in a fifth of the "
                 "time)")
      ->transform(as_size);
  app.add_option("--repetitions", options.repetitions,
                 "Passes of a cell that is measured to the end, at most (5, --quick: 3)")
      ->check(CLI::Range(1, 1000));
  app.add_flag("--verify", options.verify,
               "Check every byte of every block that is read (otherwise a word a page)");
  app.add_flag("--fio", options.fio, "Measure fio beside the recommended and the fastest setting");
  app.add_option("--json", options.json_file, "Write everything that was measured there");
  app.add_option("--svg", options.svg_file, "Draw a heat map there");
  app.add_option(
      "--write-config", options.config_file,
      "Merge the recommended \"aio\" block into this configuration (created if missing)");
}

void warn_of_older_names(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string word(argv[i]);
    for (const std::string older : kOlderThreadKnobs) {
      if (word != "--" + older && !word.starts_with("--" + older + "=")) continue;
      fmt::print(stderr, "aio_bench: --{}: in configurations its canonical name is {}\n", older,
                 kThreadKnob);
    }
  }
}

}  // namespace

std::vector<Setting> settings_of(const Options& options) {
  auto all = grid_of(options.block_sizes, options.queue_depths, options.thread_counts);
  if (options.settings_given) return all;
  std::erase_if(all, [](const Setting& one) { return one.in_flight_bytes() > kMostInFlight; });
  return all;
}

std::optional<Options> parse_options(int argc, char** argv, int& exit_code) {
  Options options;
  std::vector<std::string> workloads;
  CLI::App app(kDescription, "aio_bench");
  app.footer(kFooter);
  app.add_option("--path,paths", options.directories,
                 "Directories, one on each drive to measure; --path may repeat");
  add_settings(app, options, workloads);
  add_measuring(app, options);
  CLI::App* compare = app.add_subcommand("compare", "What changed between two --json files");
  compare->add_option("files", options.compare, "The earlier and the later file")
      ->required()
      ->expected(2);
  try {
    app.parse(argc, argv);
    if (compare->parsed()) return options;
    for (const std::string& name : workloads) options.workloads.push_back(*workload_of(name));
    fill_in_defaults(options);
    const auto mistakes = find_mistakes(options, app.count("--file-size") > 0);
    if (!mistakes.empty()) {
      throw CLI::ValidationError(fmt::format("{}", fmt::join(mistakes, "; ")), 2);
    }
    warn_of_older_names(argc, argv);
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
