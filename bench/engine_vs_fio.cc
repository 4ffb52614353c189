// The engine against fio on the same file, block size, depth and direction, alternating.
//
// Usage: engine_vs_fio [directory] [pairs] [MiB]. Prints Markdown. Exits with 1 when fio is
// missing, when the directory cannot be used, and when the engine moves wrong bytes.
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

struct Pair {
  Run ours, fio;
};

struct Cell {
  Setting setting;
  std::vector<Pair> pairs;
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
double median(const std::vector<Pair>& pairs, Figure figure) {
  std::vector<double> values;
  for (const Pair& pair : pairs) values.push_back(figure(pair));
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

void print_card(const aio::PathProbe& probe, const std::string& fio, int pairs,
                std::uint64_t size_bytes) {
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
      "over the same file of %llu MiB, all of it written before; %d pairs a cell, engine and fio "
      "in "
      "turn. GB are 10^9 bytes. fio's CPU time is its job's; ours is the process's and includes "
      "stamping and checking a word of every page.\n\n",
      static_cast<unsigned long long>(size_bytes >> 20), pairs);
}

void print_tables(const std::vector<Cell>& cells) {
  std::printf(
      "Medians; \"ours / fio\" is the median of the pairs' own ratios, above 1 the engine is "
      "faster.\n\n"
      "| direction | block | depth | ours GB/s | fio GB/s | ours / fio | CPU s/GB ours | CPU s/GB "
      "fio | system calls/GB ours |\n|---|---|---|---|---|---|---|---|---|\n");
  for (const Cell& cell : cells) {
    const auto of = [&](auto figure) { return median(cell.pairs, figure); };
    std::printf(
        "| %s | %uK | %u | %.2f | %.2f | %.2f | %.3f | %.3f | %.0f |\n",
        name_of(cell.setting.direction), cell.setting.block_size_bytes >> 10,
        cell.setting.queue_depth, of([](const Pair& p) { return p.ours.gb_per_second(); }),
        of([](const Pair& p) { return p.fio.gb_per_second(); }),
        of([](const Pair& p) { return p.ours.gb_per_second() / p.fio.gb_per_second(); }),
        of([](const Pair& p) { return p.ours.cpu_seconds / p.ours.gb(); }),
        of([](const Pair& p) { return p.fio.cpu_seconds / p.fio.gb(); }),
        of([](const Pair& p) { return static_cast<double>(p.ours.system_calls) / p.ours.gb(); }));
  }
  std::printf(
      "\nEvery repetition, GB/s, ours / fio in the order of the run:\n\n"
      "| direction | block | depth | pairs |\n|---|---|---|---|\n");
  for (const Cell& cell : cells) {
    std::printf("| %s | %uK | %u |", name_of(cell.setting.direction),
                cell.setting.block_size_bytes >> 10, cell.setting.queue_depth);
    for (const Pair& pair : cell.pairs) {
      std::printf(" %.2f / %.2f%s", pair.ours.gb_per_second(), pair.fio.gb_per_second(),
                  &pair == &cell.pairs.back() ? " |\n" : ",");
    }
  }
}

Result<void> measure(const aio::File& file, std::uint64_t size_bytes, int pairs,
                     std::vector<Cell>& cells) {
  const Setting whole{aio::Direction::kWrite, 1 << 20, 8};
  Setting check = whole;
  check.direction = aio::Direction::kRead;
  if (auto filled = run_engine(file, size_bytes, whole); !filled) {
    return tl::unexpected(filled.error());
  }
  for (Cell& cell : cells) {
    for (int i = 0; i < pairs; ++i) {
      auto ours = run_engine(file, size_bytes, cell.setting);
      if (!ours) return tl::unexpected(ours.error());
      if (cell.setting.direction == aio::Direction::kWrite) {
        auto checked = run_engine(file, size_bytes, check);
        if (!checked) return tl::unexpected(checked.error());
      }
      auto fio = run_fio(file, size_bytes, cell.setting);
      if (!fio) return tl::unexpected(fio.error());
      cell.pairs.push_back({*ours, *fio});
    }
  }
  return {};
}

Result<void> run(const std::string& directory, int pairs, std::uint64_t size_bytes) {
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
  print_card(probe, fio, pairs, size_bytes);
  std::vector<Cell> cells = all_cells();
  if (auto measured = measure(*file, size_bytes, pairs, cells); !measured) return measured;
  print_tables(cells);
  return {};
}

}  // namespace
}  // namespace spillway::bench

int main(int argc, char** argv) {
  const std::string directory = argc > 1 ? argv[1] : ".";
  const int pairs = argc > 2 ? std::atoi(argv[2]) : 5;
  const int mib = argc > 3 ? std::atoi(argv[3]) : 512;
  if (pairs < 1 || mib < 64 || directory.starts_with('-')) {
    std::fprintf(stderr, "usage: engine_vs_fio [directory] [pairs, 5] [MiB, 512, at least 64]\n");
    return 2;
  }
  const auto done = spillway::bench::run(directory, pairs, std::uint64_t(mib) << 20);
  if (!done) {
    std::fprintf(stderr, "engine_vs_fio: %s\n", done.error().message().c_str());
    return 1;
  }
  return 0;
}
