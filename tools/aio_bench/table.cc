#include "table.h"

#include <fmt/format.h>

#include <spillway/pinned_pool/limits.h>
#include <algorithm>
#include <thread>

#include "wrapped.h"

namespace spillway::aio_bench {
namespace {

using pinned_pool::format_bytes;
using pinned_pool::MemoryLimits;

constexpr std::size_t kColumns = 80;
constexpr std::size_t kMostOthers = 10;  // rows of settings that were only looked at

void line(const char* name, const std::string& value) { fmt::print("  {:<13}{}\n", name, value); }

std::string memory_lock() {
  const MemoryLimits limits = MemoryLimits::read();
  return limits.memlock_bytes == MemoryLimits::kUnlimited ? "unlimited"
                                                          : format_bytes(limits.memlock_bytes);
}

std::string device_of(const aio::PathProbe& probe) {
  if (probe.block_device.empty()) return "none";
  return fmt::format("{}, {}, {}", probe.block_device,
                     probe.device_model.empty() ? "model unknown" : "model " + probe.device_model,
                     probe.rotational ? "reported as rotational" : "not rotational");
}

void print_probe(const aio::PathProbe& probe) {
  line("path", probe.path);
  line("filesystem", probe.filesystem);
  line("device", device_of(probe));
  line("scheduler",
       fmt::format("{}, NUMA node {}", probe.scheduler.empty() ? "unknown" : probe.scheduler,
                   probe.numa_node < 0 ? "none" : std::to_string(probe.numa_node)));
  line("free space", format_bytes(probe.free_bytes) + " of " + format_bytes(probe.size_bytes));
  line("alignment",
       fmt::format("memory {}, offset {} bytes", probe.memory_alignment, probe.offset_alignment));
  for (const aio::Capability& capability : probe.capabilities) {
    if (!capability.available) line("note", capability.name + ": no: " + capability.reason);
  }
}

std::string duration(double us) {
  if (us <= 0) return "-";
  if (us < 1000) return fmt::format("{:.0f} us", us);
  return us < 1e6 ? fmt::format("{:.1f} ms", us / 1e3) : fmt::format("{:.2f} s", us / 1e6);
}

// Row by row, the finalists, and of the others the fastest few in the ranking workload.
std::vector<const CellResult*> rows_of(const Report& report, std::size_t& left_out) {
  std::vector<const CellResult*> rows, others;
  for (const CellResult& result : report.results) {
    (result.finalist ? rows : others).push_back(&result);
  }
  std::ranges::stable_sort(others, std::greater(),
                           [](const CellResult* one) { return one->gb_per_second(); });
  left_out = others.size() - std::min(others.size(), kMostOthers);
  others.resize(others.size() - left_out);
  rows.insert(rows.end(), others.begin(), others.end());
  return rows;
}

char mark_of(const Report& report, const CellResult& row) {
  const Recommendation& found = report.recommendation;
  if (!row.finalist) return '~';
  if (row.setting == found.setting) return '>';
  return row.setting == found.best ? '+' : ' ';
}

// In lines of a terminal of 80 columns.
void print_wrapped(const std::string& text) {
  for (const std::string& one : wrapped(text, kColumns - 2)) fmt::print("  {}\n", one);
}

}  // namespace

void print_card(const Report& report) {
  fmt::print("Target{}\n", report.target.striped() ? ": striped over" : "");
  for (const aio::PathProbe& probe : report.target.probes) print_probe(probe);
  line("engine", report.engine.choice);
  line("memory lock", memory_lock());
  line("processors", std::to_string(std::thread::hardware_concurrency()));
  for (const std::string& note : report.engine.notes) line("note", note);
  std::fflush(stdout);
}

void print_table(const Report& report) {
  line("test file", report.file_choice);
  for (const std::string& note : report.notes) line("note", note);
  fmt::print("\n  {:<5} {:>5} {:>5} {:>4} {:>7} {:>13} {:>8} {:>8} {:>5} {:>8}\n", "load", "block",
             "depth", "thr.", "GB/s", "min-max", "p50", "p99", "CPU %", "calls/GB");
  std::size_t left_out = 0;
  for (const CellResult* row : rows_of(report, left_out)) {
    const std::string range = row->repetitions.size() == 1
                                  ? ""
                                  : fmt::format("{}-{}", rate_text(row->slowest_gb_per_second()),
                                                rate_text(row->fastest_gb_per_second()));
    fmt::print("{} {:<5} {:>5} {:>5} {:>4} {:>7} {:>13} {:>8} {:>8} {:>5.0f} {:>8.0f}\n",
               mark_of(report, *row), name_of(row->workload),
               short_size(row->setting.block_size_bytes), row->setting.queue_depth,
               row->setting.thread_count, rate_text(row->gb_per_second()), range,
               duration(row->p50_us()), duration(row->p99_us()), row->cpu_percent(),
               row->system_calls_per_gb());
  }
  fmt::print("> recommended, + fastest, ~ a short look only\n");
  if (left_out > 0) {
    fmt::print("{} more settings were slower in a short look (--json has them all)\n", left_out);
  }
}

void print_fio(const Report& report) {
  if (report.fio.empty()) {
    if (!report.fio_note.empty()) fmt::print("\nNo comparison: {}\n", report.fio_note);
    return;
  }
  fmt::print("\nAgainst fio (io_uring, direct, same file and settings; medians of {} pairs)\n",
             report.fio.front().fio_gb_per_second.size());
  for (const FioPairs& pairs : report.fio) {
    fmt::print("  {:<5} {:<35} {:>6} GB/s, {:.0f}% of fio's {}\n", name_of(pairs.workload),
               text_of(pairs.setting), rate_text(median(pairs.engine_gb_per_second)),
               100 * pairs.share(), rate_text(median(pairs.fio_gb_per_second)));
  }
  if (!report.fio_note.empty()) fmt::print("  {}\n", report.fio_note);
}

void print_recommendation(const Report& report) {
  fmt::print("\nRecommended: {}\n", text_of(report.recommendation.setting));
  print_wrapped(reason_of(report.recommendation, report.read_percent) + ".");
  fmt::print("\n\"aio\": {}\n", aio_block(report).dump(2));
  std::fflush(stdout);
}

}  // namespace spillway::aio_bench
