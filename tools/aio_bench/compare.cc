#include "compare.h"

#include <fmt/format.h>

#include <algorithm>

namespace spillway::aio_bench {
namespace {

constexpr double kLeastNoise = 0.03;
constexpr double kUnknownNoise = 0.30;  // where no cell has passes enough to tell
constexpr std::size_t kEnoughPasses = 3;

// The spread for cells with too few passes to tell their own.
double widest_spread(const std::vector<CellResult>& results) {
  double widest = -1;
  for (const CellResult& one : results) {
    if (one.repetitions.size() >= kEnoughPasses) widest = std::max(widest, one.spread());
  }
  return widest < 0 ? kUnknownNoise / 2 : widest;
}

double spread_of(const CellResult& cell, const std::vector<CellResult>& all) {
  return cell.repetitions.size() >= kEnoughPasses ? cell.spread() : widest_spread(all);
}

void print_circumstances(const StoredTarget& before, const StoredTarget& after) {
  for (std::size_t i = 0; i < before.circumstances.size(); ++i) {
    const auto& [what, old] = before.circumstances[i];
    const std::string& now = after.circumstances[i].second;
    if (old != now) fmt::print("  {} changed: {} -> {}\n", what, old, now);
  }
  if (before.recommended != after.recommended) {
    fmt::print("  recommendation changed: {}\n    -> {}\n", text_of(before.recommended),
               text_of(after.recommended));
  }
}

// Returns whether something got slower.
bool print_changes(const std::vector<CellChange>& changes) {
  std::size_t slower = 0, faster = 0;
  for (const CellChange& one : changes) {
    if (!one.slower() && !one.faster()) continue;
    if (slower + faster == 0) {
      fmt::print("  {:<8} {:>6} {:>5} {:>7} {:>9} {:>9} {:>8} {:>8}\n", "workload", "block",
                 "depth", "threads", "before", "after", "change", "noise");
    }
    slower += one.slower() ? 1 : 0;
    faster += one.faster() ? 1 : 0;
    fmt::print("  {:<8} {:>6} {:>5} {:>7} {:>9} {:>9} {:>+7.1f}% {:>7.1f}%  {}\n",
               name_of(one.workload), short_size(one.setting.block_size_bytes),
               one.setting.queue_depth, one.setting.thread_count,
               rate_text(one.before_gb_per_second), rate_text(one.after_gb_per_second),
               100 * one.change(), 100 * one.noise, one.slower() ? "SLOWER" : "faster");
  }
  fmt::print("  {} slower, {} faster, {} within noise\n", slower, faster,
             changes.size() - slower - faster);
  return slower > 0;
}

}  // namespace

std::vector<CellChange> changes_between(const StoredTarget& before, const StoredTarget& after) {
  std::vector<CellChange> changes;
  for (const CellResult& old : before.results) {
    const CellResult* now = find(after.results, old.workload, old.setting);
    if (now == nullptr) continue;
    const double noise = spread_of(old, before.results) + spread_of(*now, after.results);
    changes.push_back({.workload = old.workload,
                       .setting = old.setting,
                       .before_gb_per_second = old.gb_per_second(),
                       .after_gb_per_second = now->gb_per_second(),
                       .noise = std::max(kLeastNoise, noise)});
  }
  return changes;
}

int compare_files(const std::filesystem::path& before, const std::filesystem::path& after) {
  const auto old = read_result(before);
  const auto now = read_result(after);
  if (!old || !now) {
    fmt::print(stderr, "aio_bench: {}\n", (old ? now : old).error().message());
    return 2;
  }
  bool compared = false, slower = false;
  for (const StoredTarget& target : *old) {
    const auto same = std::ranges::find(*now, target.name, &StoredTarget::name);
    // One target each: it may have moved to another directory.
    const bool only_ones = old->size() == 1 && now->size() == 1;
    if (same == now->end() && !only_ones) continue;
    const StoredTarget& later = same == now->end() ? now->front() : *same;
    const auto changes = changes_between(target, later);
    if (changes.empty()) continue;
    compared = true;
    fmt::print("{}{}\n", target.name, target.name == later.name ? "" : " -> " + later.name);
    print_circumstances(target, later);
    slower |= print_changes(changes);
  }
  if (compared) return slower ? 1 : 0;
  fmt::print(stderr, "aio_bench: compare: {} and {} have no cell in common\n", before.string(),
             after.string());
  return 2;
}

}  // namespace spillway::aio_bench
