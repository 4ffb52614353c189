#include "fio_report.h"

#include <sys/utsname.h>

#include <spillway/aio/probe.h>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "fio_run.h"
#include "tools/fio/fio_job.h"

namespace spillway::bench {
namespace {

struct Spread {
  double median = 0, least = 0, most = 0;
};

template <typename Figure>
Spread spread_of(const std::vector<Round>& rounds, Figure figure) {
  std::vector<double> values;
  for (const Round& round : rounds) values.push_back(figure(round));
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return {values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2,
          values.front(), values.back()};
}

Spread speed_ratio(const Cell& cell) {
  return spread_of(cell.rounds,
                   [](const Round& r) { return r.ours.gb_per_second() / r.fio.gb_per_second(); });
}

Spread cpu_ratio(const Cell& cell) {
  return spread_of(cell.rounds,
                   [](const Round& r) { return r.ours.cpu_per_gb() / r.fio.cpu_per_gb(); });
}

const char* name_of(Mix mix) {
  if (mix == Mix::kRead) return "read";
  return mix == Mix::kWrite ? "write" : "70:30";
}

std::string setting_of(const Cell& cell) {
  char text[128];
  std::snprintf(text, sizeof text, "%s | %uK | %u | %u | %zux%zuK", name_of(cell.setting.mix),
                cell.setting.block_size_bytes >> 10, cell.setting.queue_depth,
                cell.setting.thread_count, cell.buffers.count, cell.buffers.bytes >> 10);
  return text;
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

void print_cell(const Cell& cell) {
  const auto median = [&](auto figure) { return spread_of(cell.rounds, figure).median; };
  const Spread speed = speed_ratio(cell);
  const Spread cpu = cpu_ratio(cell);
  const double gb = cell.rounds.front().ours.gb();
  const std::string fio_calls = cell.fio_system_calls == 0
                                    ? "-"
                                    : std::to_string(static_cast<std::uint64_t>(
                                          static_cast<double>(cell.fio_system_calls) / gb));
  std::printf(
      "| %s | %.2f | %.2f | **%.2f** (%.2f-%.2f) | %.4f | %.4f | **%.2f** (%.2f-%.2f) | %.0f | %s "
      "|\n",
      setting_of(cell).c_str(), median([](const Round& r) { return r.ours.gb_per_second(); }),
      median([](const Round& r) { return r.fio.gb_per_second(); }), speed.median, speed.least,
      speed.most, median([](const Round& r) { return r.ours.cpu_per_gb(); }),
      median([](const Round& r) { return r.fio.cpu_per_gb(); }), cpu.median, cpu.least, cpu.most,
      median([](const Round& r) { return r.ours.calls_per_gb(); }), fio_calls.c_str());
}

}  // namespace

void print_card(const std::string& directory, const std::string& label, const std::string& fio,
                std::uint64_t size_mib, int rounds) {
  const aio::PathProbe probe = aio::probe_path(directory);
  utsname system{};
  uname(&system);
  double load = 0;
  getloadavg(&load, 1);
  std::printf("## %s\n\n", label.empty() ? "The engine against fio" : label.c_str());
  std::printf("- CPU: %s, %u cores; kernel %s; load before the run: %.2f\n",
              first_value("/proc/cpuinfo", "model name").c_str(),
              std::thread::hardware_concurrency(), system.release, load);
  std::printf("- Filesystem: %s on %s (%s), scheduler %s, alignment %u\n", probe.filesystem.c_str(),
              probe.block_device.empty() ? "no block device" : probe.block_device.c_str(),
              probe.device_model.empty() ? "model unknown" : probe.device_model.c_str(),
              probe.scheduler.empty() ? "unknown" : probe.scheduler.c_str(),
              probe.offset_alignment);
  const std::string commit = fio::output_of("git -C '" SPILLWAY_SOURCE_DIR "' describe --always");
  std::printf("- %s; Spillway %s\n", fio.c_str(),
              commit.empty() ? "unknown" : commit.substr(0, commit.find('\n')).c_str());
  std::printf(
      "- Both: io_uring, O_DIRECT, registered buffers and file, batches as large as the depth, "
      "buffers on %s huge pages, one pass over the same file of %llu MiB (the first 65536 blocks), "
      "all of it written before; %d alternating pairs a cell. fio has one buffer of a block for "
      "each "
      "operation in flight. Ours are in the table, and a request has one of them; more than fio's "
      "are cold memory, as a program has that keeps what it reads. Every page is checked in a pass "
      "before that is not timed. CPU seconds are the whole process's, fio's its jobs'. GB are 10^9 "
      "bytes.\n\n",
      fio::has_huge_pages(32 << 20) ? "reserved" : "transparent (ours) and no (fio's)",
      static_cast<unsigned long long>(size_mib), rounds);
}

void print_tables(const std::vector<Cell>& cells) {
  std::printf(
      "Medians; a ratio is the median of the pairs' own ratios with their least and most. Speed "
      "above 1 and CPU below 1: the engine is better. Calls are io_uring_enter, fio's counted by "
      "strace in a run of its own.\n\n"
      "| mix | block | depth | threads | our buffers | GB/s ours | fio | ours / fio | CPU s/GB "
      "ours | fio | "
      "ours / fio | calls/GB ours | fio |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const Cell& cell : cells) print_cell(cell);
  std::printf("\nEvery pair, GB/s ours / fio (CPU s/GB ours / fio):\n\n");
  for (const Cell& cell : cells) {
    std::printf("- %s:", setting_of(cell).c_str());
    for (const Round& round : cell.rounds) {
      std::printf(" %.2f / %.2f (%.4f / %.4f)%s", round.ours.gb_per_second(),
                  round.fio.gb_per_second(), round.ours.cpu_per_gb(), round.fio.cpu_per_gb(),
                  &round == &cell.rounds.back() ? "\n" : ",");
    }
  }
  std::printf("\n");
}

std::string describe(const Cell& cell) {
  char text[160];
  std::snprintf(text, sizeof text, "%s: speed %.2f, CPU %.2f of fio's", setting_of(cell).c_str(),
                speed_ratio(cell).median, cpu_ratio(cell).median);
  return text;
}

}  // namespace spillway::bench
