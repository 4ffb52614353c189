// The engine against fio on the same file, block size, depth and direction, in turn.
//
// Usage: engine_vs_fio [directory] [rounds] [MiB]. Prints Markdown. Exits with 1 when fio is
// missing, when the directory cannot be used, and when the engine moves wrong bytes.
//
// Buffers on huge pages alone can double what a virtual disk gives, because each page is a segment
// of the device's request. The engine's pool has transparent ones without asking; fio takes only
// reserved ones, so reserve some for a fair twin: sysctl vm.nr_hugepages=64.
#include <sys/utsname.h>
#include <unistd.h>

#include <spillway/aio/probe.h>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "engine_pass.h"
#include "fio_run.h"

namespace spillway::bench {
namespace {

struct Round {
  Run ours, plain, tuned;
};

struct Cell {
  Setting setting;
  std::vector<Round> rounds;
};

std::vector<Cell> all_cells() {
  std::vector<Cell> cells;
  for (const aio::Direction direction : {aio::Direction::kRead, aio::Direction::kWrite}) {
    for (const std::uint32_t block : {128u << 10, 1u << 20}) {
      for (const std::uint32_t depth : {1u, 8u, 32u})
        cells.push_back({{direction, block, depth}, {}});
    }
  }
  return cells;
}

const char* name_of(aio::Direction direction) {
  return direction == aio::Direction::kRead ? "read" : "write";
}

template <typename Figure>
double median(const std::vector<Round>& rounds, Figure figure) {
  std::vector<double> values;
  for (const Round& round : rounds) values.push_back(figure(round));
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

std::string first_value(const char* file, const std::string& key) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t begin = line.find_first_not_of(" \t", line.find(':') + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "unknown";
}

void print_card(const aio::PathProbe& probe, const std::string& fio, int rounds,
                std::uint64_t size_bytes) {
  const bool huge = huge_pages_are_free();
  utsname system{};
  uname(&system);
  double load = 0;
  getloadavg(&load, 1);
  std::printf("# The engine against fio\n\n");
  std::printf("- CPU: %s, %u cores; kernel %s; load before the run: %.2f\n",
              first_value("/proc/cpuinfo", "model name").c_str(),
              std::thread::hardware_concurrency(), system.release, load);
  std::printf("- Filesystem: %s on %s (%s), scheduler %s, alignment %u\n", probe.filesystem.c_str(),
              probe.block_device.empty() ? "no block device" : probe.block_device.c_str(),
              probe.device_model.empty() ? "model unknown" : probe.device_model.c_str(),
              probe.scheduler.empty() ? "unknown" : probe.scheduler.c_str(),
              probe.offset_alignment);
  const std::string commit = output_of("git -C '" SPILLWAY_SOURCE_DIR "' describe --always");
  std::printf("- %s; Spillway %s\n", fio.c_str(),
              commit.empty() ? "unknown" : commit.substr(0, commit.find('\n')).c_str());
  std::printf(
      "- Both: io_uring, O_DIRECT, registered buffers and file, one thread, one pass front to back "
      "over the same file of %llu MiB, all of it written before; %d rounds a cell, in turn, each "
      "round begun by the next contender. GB are 10^9 bytes.\n"
      "- fio: one submission an operation, buffers on plain pages. fio tuned: batches as large as "
      "the depth%s. Ours: one setting for all cells; buffers on %s huge pages.\n"
      "- CPU time: fio's is its job's; ours is the process's and includes stamping and checking a "
      "word of every page.\n\n",
      static_cast<unsigned long long>(size_bytes >> 20), rounds,
      huge ? ", buffers on reserved huge pages" : " (no huge pages are reserved for it)",
      huge ? "reserved" : "transparent");
}

void print_cell(const Cell& cell) {
  const auto rate = [&](Run Round::*run) {
    return median(cell.rounds, [run](const Round& r) { return (r.*run).gb_per_second(); });
  };
  const auto ratio = [&](Run Round::*twin) {
    return median(cell.rounds, [twin](const Round& r) {
      return r.ours.gb_per_second() / (r.*twin).gb_per_second();
    });
  };
  const auto cpu = [&](Run Round::*run) {
    return median(cell.rounds,
                  [run](const Round& r) { return (r.*run).cpu_seconds / (r.*run).gb(); });
  };
  const double calls = median(cell.rounds, [](const Round& r) {
    return static_cast<double>(r.ours.system_calls) / r.ours.gb();
  });
  std::printf("| %s | %uK | %u | %.2f | %.2f | %.2f | %.2f | %.2f | %.3f | %.3f | %.3f | %.0f |\n",
              name_of(cell.setting.direction), cell.setting.block_size_bytes >> 10,
              cell.setting.queue_depth, rate(&Round::ours), rate(&Round::plain),
              rate(&Round::tuned), ratio(&Round::plain), ratio(&Round::tuned), cpu(&Round::ours),
              cpu(&Round::plain), cpu(&Round::tuned), calls);
}

void print_tables(const std::vector<Cell>& cells) {
  std::printf(
      "Medians. A ratio is the median of the rounds' own ratios; above 1 the engine is faster.\n\n"
      "| direction | block | depth | ours GB/s | fio | fio tuned | ours / fio | ours / fio tuned | "
      "CPU s/GB ours | fio | fio tuned | system calls/GB ours |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const Cell& cell : cells) print_cell(cell);
  std::printf(
      "\nEvery round, GB/s, ours / fio / fio tuned:\n\n"
      "| direction | block | depth | rounds |\n|---|---|---|---|\n");
  for (const Cell& cell : cells) {
    std::printf("| %s | %uK | %u |", name_of(cell.setting.direction),
                cell.setting.block_size_bytes >> 10, cell.setting.queue_depth);
    for (const Round& round : cell.rounds) {
      std::printf(" %.2f / %.2f / %.2f%s", round.ours.gb_per_second(), round.plain.gb_per_second(),
                  round.tuned.gb_per_second(), &round == &cell.rounds.back() ? " |\n" : ",");
    }
  }
}

// One contender's turn. After a write of ours every stamp is read back, which is not timed.
Result<void> take_turn(int contender, const aio::File& file, std::uint64_t size_bytes,
                       const Setting& setting, Round& round) {
  if (contender > 0) {
    const FioStyle style = contender == 1 ? FioStyle::kPlain : FioStyle::kTuned;
    auto run = run_fio(file, size_bytes, setting, style);
    if (!run) return tl::unexpected(run.error());
    (contender == 1 ? round.plain : round.tuned) = *run;
    return {};
  }
  auto run = run_engine(file, size_bytes, setting);
  if (!run) return tl::unexpected(run.error());
  round.ours = *run;
  if (setting.direction == aio::Direction::kRead) return {};
  auto checked = run_engine(file, size_bytes, {aio::Direction::kRead, 1 << 20, 8});
  if (!checked) return tl::unexpected(checked.error());
  return {};
}

Result<void> measure(const aio::File& file, std::uint64_t size_bytes, int rounds,
                     std::vector<Cell>& cells) {
  auto filled = run_engine(file, size_bytes, {aio::Direction::kWrite, 1 << 20, 8});
  if (!filled) return tl::unexpected(filled.error());
  constexpr int kContenders = 3;
  for (Cell& cell : cells) {
    for (int i = 0; i < rounds; ++i) {
      Round& round = cell.rounds.emplace_back();
      for (int turn = 0; turn < kContenders; ++turn) {
        auto done = take_turn((i + turn) % kContenders, file, size_bytes, cell.setting, round);
        if (!done) return done;
      }
    }
  }
  return {};
}

Result<void> run(const std::string& directory, int rounds, std::uint64_t size_bytes) {
  const std::string fio = fio_version();
  if (fio.empty()) {
    return make_error(ErrorKind::kUnsupported, "run fio", "", "not found: apt install fio");
  }
  const aio::PathProbe probe = aio::probe_path(directory);
  auto file = aio::File::create(directory + "/.engine_vs_fio." + std::to_string(getpid()),
                                {.size_bytes = 0, .direct = aio::Direct::kRequired});
  if (!file) return tl::unexpected(file.error());
  // Nothing is left behind, however this ends.
  if (auto removed = file->remove(); !removed) return removed;
  print_card(probe, fio, rounds, size_bytes);
  std::vector<Cell> cells = all_cells();
  if (auto measured = measure(*file, size_bytes, rounds, cells); !measured) return measured;
  print_tables(cells);
  return {};
}

}  // namespace
}  // namespace spillway::bench

int main(int argc, char** argv) {
  const std::string directory = argc > 1 ? argv[1] : ".";
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 6;
  const int mib = argc > 3 ? std::atoi(argv[3]) : 512;
  if (rounds < 1 || mib < 64 || directory.starts_with('-')) {
    std::fprintf(stderr, "usage: engine_vs_fio [directory] [rounds, 6] [MiB, 512, at least 64]\n");
    return 2;
  }
  const auto done = spillway::bench::run(directory, rounds, std::uint64_t(mib) << 20);
  if (!done) {
    std::fprintf(stderr, "engine_vs_fio: %s\n", done.error().message().c_str());
    return 1;
  }
  return 0;
}
