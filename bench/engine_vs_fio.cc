// The engine against fio's io_uring engine on the same file: same block size, depth, threads and
// mix, registered buffers and files, batches, huge pages. Prints Markdown.
//
//   engine_vs_fio [--rounds 5] [--size-mib 1024] [--full] [--depth N] [--label TEXT] [DIRECTORY]
//
// Exits with 1 when fio is missing, when the directory cannot be used, and when the engine moves
// wrong bytes. bench/against_fio.sh runs it on a directory and on a loop device over memory.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <string>

#include "fio_report.h"
#include "fio_run.h"
#include "tools/fio/fio_job.h"

namespace spillway::bench {
namespace {

struct Options {
  std::string directory = ".";
  std::string label;
  int rounds = 5;
  std::uint64_t size_mib = 1024;
  bool full = false;
  std::uint32_t depth = 0;  // only the cells of this one; 0: all
};

std::vector<Cell> cells_of(const Options& options) {
  constexpr std::uint64_t kMostBlocks = 65536;  // of a pass, which has seconds then
  constexpr RequestBuffers kCold{.bytes = 64 << 20, .count = 4};
  std::vector<Cell> cells;
  const auto add_with = [&](const Setting& setting, const RequestBuffers& buffers) {
    cells.push_back({.setting = setting,
                     .buffers = buffers,
                     .size_bytes = std::min<std::uint64_t>(
                         options.size_mib << 20, kMostBlocks * setting.block_size_bytes)});
  };
  const auto add = [&](Mix mix, std::uint32_t block_kib, std::uint32_t depth,
                       std::uint32_t threads) {
    const Setting setting{mix, block_kib << 10, depth, threads};
    add_with(setting, hot_buffers(setting));
  };
  for (const Mix mix : {Mix::kRead, Mix::kWrite, Mix::kReadWrite}) {
    if (options.full) {
      for (const std::uint32_t threads : {1u, 2u}) {
        for (const std::uint32_t block_kib : {128u, 512u, 1024u, 4096u}) {
          for (const std::uint32_t depth : {1u, 8u, 32u}) add(mix, block_kib, depth, threads);
        }
      }
      continue;
    }
    for (const std::uint32_t block_kib : {4u, 16u}) add(mix, block_kib, 1, 1);
    for (const std::uint32_t depth : {1u, 8u, 32u}) add(mix, 128, depth, 1);
    for (const std::uint32_t depth : {1u, 8u}) add(mix, 1024, depth, 1);
    add(mix, 512, 32, 1);
    add(mix, 512, 8, 2);
    for (const std::uint32_t depth : {1u, 8u}) {
      add_with({mix, 128 << 10, depth, 1}, kCold);
    }
  }
  if (options.depth != 0) {
    std::erase_if(cells,
                  [&](const Cell& cell) { return cell.setting.queue_depth != options.depth; });
  }
  return cells;
}

// The contenders take turns at beginning a round. Before the first one a pass that is not timed
// checks every page, written and read with the cell's setting.
Result<void> measure(const aio::File& file, const Options& options, Cell& cell) {
  for (int i = 0; i < options.rounds; ++i) {
    Round round;
    for (int turn = 0; turn < 2; ++turn) {
      if ((i + turn) % 2 == 1) {
        auto run = run_fio(file, cell.size_bytes, cell.setting);
        if (!run) return tl::unexpected(run.error());
        round.fio = *run;
        continue;
      }
      auto pass = EnginePass::create(file, cell.size_bytes, cell.setting, cell.buffers);
      if (!pass) return tl::unexpected(pass.error());
      if (i == 0) {
        if (auto checked = (*pass)->check(); !checked) return checked;
      }
      auto run = (*pass)->run();
      if (!run) return tl::unexpected(run.error());
      round.ours = *run;
    }
    cell.rounds.push_back(round);
  }
  cell.fio_system_calls = fio_system_calls(file, cell.size_bytes, cell.setting);
  return {};
}

Result<void> run(const Options& options) {
  const std::string fio = fio::version();
  if (fio.empty()) {
    return make_error(ErrorKind::kUnsupported, "run fio", "", "not found: apt install fio");
  }
  auto file =
      aio::File::create(options.directory + "/.engine_vs_fio." + std::to_string(getpid()),
                        {.size_bytes = options.size_mib << 20, .direct = aio::Direct::kRequired});
  if (!file) return tl::unexpected(file.error());
  // Nothing is left behind, however this ends.
  if (auto removed = file->remove(); !removed) return removed;
  print_card(options.directory, options.label, fio, options.size_mib, options.rounds);
  std::vector<Cell> cells = cells_of(options);
  for (Cell& cell : cells) {
    if (auto measured = measure(*file, options, cell); !measured) return measured;
    std::fprintf(stderr, "engine_vs_fio: %s\n", describe(cell).c_str());
  }
  print_tables(cells);
  return {};
}

}  // namespace
}  // namespace spillway::bench

int main(int argc, char** argv) {
  spillway::bench::Options options;
  CLI::App app("The engine against fio's io_uring engine with the same settings, as Markdown.");
  app.add_option("directory", options.directory, "where the test file is made")
      ->capture_default_str();
  app.add_option("--label", options.label, "what the disk is, for the heading");
  app.add_option("--rounds", options.rounds, "alternating pairs for each cell")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  app.add_option("--size-mib", options.size_mib, "size of the file, and of a pass")
      ->check(CLI::Range(128, 1 << 20))
      ->capture_default_str();
  app.add_option("--depth", options.depth, "only the cells of this depth");
  app.add_flag("--full", options.full, "every cell: 4 block sizes, 3 depths, 3 mixes, 2 threads");
  CLI11_PARSE(app, argc, argv);
  if (const auto done = spillway::bench::run(options); !done) {
    std::fprintf(stderr, "engine_vs_fio: %s\n", done.error().message().c_str());
    return 1;
  }
  return 0;
}
