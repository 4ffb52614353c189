#include "tools/spillway/train/report.h"

#include <fmt/format.h>
#include <spillway/pinned_pool/limits.h>

#include <string>

namespace spillway::tools {
namespace {

using pinned_pool::format_bytes;

void print_held(const trainer::RunSummary& summary) {
  const auto cell = [](std::uint64_t bytes) {
    return bytes == 0 ? std::string("-") : format_bytes(bytes);
  };
  fmt::print("  {:<18}{:<22}{:>12}{:>12}\n", "held by this rank", "where", "memory", "storage");
  for (const trainer::HeldBytes& held : summary.held) {
    fmt::print("  {:<18}{:<22}{:>12}{:>12}\n", held.what, held.where, cell(held.memory),
               cell(held.storage));
  }
}

void print_traffic(const trainer::RunSummary& summary) {
  const auto steps = static_cast<double>(summary.totals.steps);
  const double parameters = static_cast<double>(summary.parameters) / summary.world_size;
  fmt::print("\n  {:<18}{:>12}{:>14}{:>12}{:>14}\n", "NVMe per step", "moved", "a parameter",
             "theory", "a parameter");
  const auto row = [&](const char* what, double moved, double wanted) {
    fmt::print("  {:<18}{:>12}{:>12.2f} B{:>12}{:>12.2f} B\n", what,
               format_bytes(static_cast<std::uint64_t>(moved)), moved / parameters,
               format_bytes(static_cast<std::uint64_t>(wanted)), wanted / parameters);
  };
  row("read", static_cast<double>(summary.totals.nvme_read_bytes) / steps,
      summary.expected_read_bytes);
  row("written", static_cast<double>(summary.totals.nvme_written_bytes) / steps,
      summary.expected_written_bytes);
}

std::string text_of(const trainer::NumberRange& range) {
  return range.first == range.last ? fmt::format("{}", range.first)
                                   : fmt::format("{}-{}", range.first, range.last);
}

}  // namespace

void print_summary(const trainer::RunSummary& summary) {
  fmt::print("\n");
  print_held(summary);
  const trainer::RunTotals& totals = summary.totals;
  if (totals.steps > 0) {
    const auto steps = static_cast<double>(totals.steps);
    print_traffic(summary);
    fmt::print("\n  {:<18}{:>10.3f} s a step: computing {:.3f} s, waiting for I/O {:.3f} s\n",
               "time", totals.seconds / steps, totals.compute_seconds / steps,
               totals.io_wait_seconds / steps);
  }
  fmt::print("  {:<18}{:>12} (all states, 16 B a parameter: {})\n", "peak memory",
             format_bytes(pinned_pool::memory_usage().peak_resident_bytes),
             format_bytes(16 * summary.parameters));
}

void print_memory_report(const trainer::RunSummary& summary, const trainer::MemoryMap& map,
                         std::uint32_t rank) {
  fmt::print("\nmemory report of rank {} of {}\n", rank, summary.world_size);
  if (rank > 0) print_held(summary);  // rank 0 has shown its own
  for (const std::string& detail : map.details) fmt::print("  {}\n", detail);
  fmt::print("\n  {:<40}{:<18}{:>12}{:>10}{:>8}\n", "parameter", "unit", "elements", "tiles",
             "ranks");
  for (const trainer::ParameterPlace& parameter : map.parameters) {
    fmt::print("  {:<40}{:<18}{:>12}{:>10}{:>8}{}\n", parameter.name, parameter.unit,
               parameter.elements, parameter.tiles ? text_of(*parameter.tiles) : "-",
               text_of(parameter.ranks), parameter.frozen ? "  frozen" : "");
  }
}

void print_trace(const trainer::TraceWritten& trace) {
  const std::string path = trace.path.string();
  fmt::print("  {:<18}{} spans in {}; draw it: spillway trace {} -o trace.svg\n", "trace",
             trace.spans, path, path);
  if (trace.dropped == 0) return;
  fmt::print("  {:<18}{} more spans did not fit: trace fewer steps (--trace-steps)\n", "",
             trace.dropped);
}

}  // namespace spillway::tools
