#include "search.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

namespace spillway::aio_bench {
namespace {

constexpr double kShortestPass = 0.1;   // seconds; below, starting and stopping are all there is
constexpr double kGoodPass = 0.3;       // seconds; repetitions are given up for it
constexpr double kShortTime = 60;       // seconds; below, fewer finalists get longer passes
constexpr double kAgainShare = 0.08;    // of the finalists' time: to repeat passes that are far off
constexpr int kMostRepeats = 2;         // of a cell
constexpr double kUnsureSpread = 0.15;  // of two passes: a third one decides
constexpr std::size_t kLucky = 2;       // results that a lucky pass may have put in front

// A round of the halving: who goes on afterwards, and until which share of the time it may last.
struct Round {
  std::size_t kept;
  double until;   // share of all the time
  double margin;  // of the best, within which a short look cannot tell settings apart
};

class Search {
 public:
  Search(const SearchOptions& options, const SearchWorld& world)
      : options_(options), world_(world), ranked_by_(ranking_workload(options.workloads)) {}

  Result<std::vector<CellResult>> run() {
    std::vector<Setting> settings = options_.settings;
    if (!options_.exhaustive) {
      const std::size_t finalists = options_.seconds < kShortTime ? 3 : 5;
      const std::size_t half_way = std::max(2 * finalists, settings.size() / 3);
      for (const Round& round : {Round{half_way, 0.35, 0.10}, Round{finalists, 0.6, 0.06}}) {
        if (settings.size() <= round.kept) continue;
        if (auto done = look_at(settings, round); !done) return tl::unexpected(done.error());
        settings = survivors(of(settings), round.kept, round.margin);
      }
    }
    if (auto done = finish(settings); !done) return tl::unexpected(done.error());
    if (auto done = repeat_outliers(settings); !done) return tl::unexpected(done.error());
    return in_order();
  }

 private:
  double seconds_left() const { return options_.seconds - world_.seconds_used(); }

  // Neighbours in the list are neighbours on the drive; where the time ends before the list, what
  // was measured shall be spread over all of it.
  static std::vector<Setting> spread_out(const std::vector<Setting>& settings) {
    const std::size_t count = settings.size();
    std::size_t stride = std::max<std::size_t>(1, count * 5 / 8);
    while (std::gcd(stride, count) != 1) ++stride;
    std::vector<Setting> order;
    for (std::size_t i = 0; i < count; ++i) order.push_back(settings[i * stride % count]);
    return order;
  }

  Result<void> look_at(const std::vector<Setting>& settings, const Round& round) {
    ++round_;
    const double end = options_.seconds * round.until;
    std::size_t to_do = settings.size();
    for (const Setting& setting : spread_out(settings)) {
      const double left = end - world_.seconds_used();
      const bool first = to_do == settings.size();
      const double pass = pass_seconds(left / static_cast<double>(to_do));
      if (left < pass + overhead_ && !first) break;
      --to_do;
      const auto what = fmt::format("round {}, setting {} of {}", round_, settings.size() - to_do,
                                    settings.size());
      if (auto done = measure(ranked_by_, setting, pass, what); !done) return done;
    }
    return {};
  }

  // All workloads, round after round, until the repetitions are complete or the time is over.
  Result<void> finish(const std::vector<Setting>& settings) {
    const std::size_t passes = settings.size() * options_.workloads.size();
    const double share = (1 - kAgainShare) * seconds_left();
    const int repetitions = repetitions_in(share / static_cast<double>(passes));
    const double wished = share / static_cast<double>(passes * repetitions);
    for (int repetition = 0; repetition < repetitions; ++repetition) {
      std::size_t done_passes = 0;
      for (const Setting& setting : settings) {
        for (const Workload workload : options_.workloads) {
          const double pass = options_.exhaustive ? options_.pass_seconds : pass_seconds(wished);
          const bool first_setting = repetition == 0 && done_passes < options_.workloads.size();
          if (!options_.exhaustive && !first_setting && seconds_left() < pass + overhead_)
            return {};
          ++done_passes;
          const auto what = fmt::format("{}, repetition {} of {}, cell {} of {}",
                                        options_.exhaustive ? "every setting" : "finalists",
                                        repetition + 1, repetitions, done_passes, passes);
          if (auto done = measure(workload, setting, pass, what); !done) return done;
          find(results_, workload, setting)->finalist = true;
        }
      }
    }
    return {};
  }

  // The fastest first: they decide.
  Result<void> repeat_outliers(const std::vector<Setting>& settings) {
    for (const Setting& setting : survivors(of(settings), settings.size(), 0)) {
      for (const Workload workload : options_.workloads) {
        const CellResult* cell = find(results_, workload, setting);
        for (int repeat = 0; repeat < kMostRepeats && is_unsure(cell); ++repeat) {
          const double pass = cell->repetitions.front().seconds;
          if (!options_.exhaustive && seconds_left() < pass + overhead_) return {};
          if (auto done = measure(workload, setting, pass, "again, passes differ"); !done) {
            return done;
          }
          drop_outlier(*find(results_, workload, setting));
        }
      }
    }
    return {};
  }

  // Two passes that differ do not tell which of them is off.
  static bool is_unsure(const CellResult* cell) {
    if (cell == nullptr || !cell->finalist) return false;
    return lone_outlier(cell->repetitions) ||
           (cell->repetitions.size() == 2 && cell->spread() > kUnsureSpread);
  }

  static void drop_outlier(CellResult& cell) {
    const auto outlier = lone_outlier(cell.repetitions);
    if (!outlier) return;
    cell.repetitions.erase(cell.repetitions.begin() + static_cast<std::ptrdiff_t>(*outlier));
    ++cell.outliers;
  }

  // Of a cell that has so many seconds.
  int repetitions_in(double seconds) const {
    if (options_.exhaustive) return options_.repetitions;
    const double fit = std::max(1.0, seconds / (kGoodPass + overhead_));
    return fit < options_.repetitions ? static_cast<int>(fit) : options_.repetitions;
  }

  double pass_seconds(double share) const {
    return std::clamp(share - overhead_, kShortestPass, options_.pass_seconds);
  }

  Result<void> measure(Workload workload, const Setting& setting, double seconds,
                       const std::string& what) {
    const double before = world_.seconds_used();
    world_.progress(what, options_.exhaustive ? exhaustive_seconds_left() : seconds_left());
    auto measured = world_.measure(workload, setting, seconds);
    if (!measured) return tl::unexpected(measured.error());
    // What a pass takes beside its own time: the engine's start, the drain of what is in flight.
    const double extra = std::max(0.0, world_.seconds_used() - before - seconds);
    overhead_ = passes_ == 0 ? extra : 0.7 * overhead_ + 0.3 * extra;
    ++passes_;
    CellResult* cell = find(results_, workload, setting);
    if (cell == nullptr) cell = &results_.emplace_back(CellResult{workload, setting});
    cell->repetitions.push_back(*measured);
    return {};
  }

  double exhaustive_seconds_left() const {
    const std::size_t all = options_.settings.size() * options_.workloads.size() *
                            static_cast<std::size_t>(options_.repetitions);
    return static_cast<double>(all - std::min(all, passes_)) * (options_.pass_seconds + overhead_);
  }

  std::vector<CellResult> of(const std::vector<Setting>& settings) const {
    std::vector<CellResult> found;
    for (const Setting& setting : settings) {
      if (const auto* cell = find(results_, ranked_by_, setting)) found.push_back(*cell);
    }
    return found;
  }

  std::vector<CellResult> in_order() const {
    std::vector<CellResult> ordered;
    for (const Workload workload : options_.workloads) {
      for (const Setting& setting : options_.settings) {
        if (const auto* cell = find(results_, workload, setting)) ordered.push_back(*cell);
      }
    }
    return ordered;
  }

  const SearchOptions& options_;
  const SearchWorld& world_;
  const Workload ranked_by_;
  std::vector<CellResult> results_;
  int round_ = 0;
  std::size_t passes_ = 0;
  double overhead_ = 0;  // seconds a pass takes beside its own, smoothed
};

}  // namespace

Workload ranking_workload(const std::vector<Workload>& workloads) {
  return std::ranges::count(workloads, Workload::kMix) > 0 ? Workload::kMix : workloads.front();
}

std::vector<Setting> survivors(const std::vector<CellResult>& results, std::size_t count,
                               double margin) {
  std::vector<const CellResult*> fastest;
  for (const CellResult& result : results) fastest.push_back(&result);
  std::ranges::stable_sort(fastest, std::greater(),
                           [](const CellResult* one) { return one->gb_per_second(); });
  std::vector<Setting> kept;
  const auto keep = [&](const CellResult* one) {
    if (kept.size() < count && std::ranges::count(kept, one->setting) == 0) {
      kept.push_back(one->setting);
    }
  };
  if (fastest.empty()) return kept;
  // The very fastest of many short looks was lucky: a few behind it tell what the drive can do.
  const double best = fastest[std::min(kLucky, (fastest.size() - 1) / 4)]->gb_per_second();
  const auto smallest_within = [&](double share) {
    const CellResult* smallest = fastest.front();
    for (const CellResult* one : fastest) {
      const bool near = one->gb_per_second() >= (1 - share) * best;
      if (near && is_smaller(one->setting, smallest->setting)) smallest = one;
    }
    return smallest;
  };
  const std::array<double, 4> shares = {margin, 2 * margin, margin / 2, 0};
  for (std::size_t i = 0; i < fastest.size(); ++i) {
    keep(fastest[i]);
    if (i < shares.size()) keep(smallest_within(shares[i]));
  }
  return kept;
}

Result<std::vector<CellResult>> search(const SearchOptions& options, const SearchWorld& world) {
  return Search(options, world).run();
}

}  // namespace spillway::aio_bench
