#include "tools/spillway/trace/summary.h"

#include <fmt/format.h>
#include <spillway/pinned_pool/limits.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace spillway::tools {
namespace {

using trainer::Lane;

constexpr std::size_t kGapsShown = 3;

void append(Intervals* intervals, const Interval& next) {
  if (!intervals->empty() && next.start_s <= intervals->back().end_s) {
    intervals->back().end_s = std::max(intervals->back().end_s, next.end_s);
  } else {
    intervals->push_back(next);
  }
}

std::string share_of(double part, double whole) {
  return whole > 0 ? fmt::format("{:.0f}%", 100 * part / whole) : "-";
}

std::string line(const char* name, const LaneSummary& lane, double seconds, bool can_hide) {
  std::string text = fmt::format("  {:<18}{:>8}{:>11.3f} s{:>8}", name, lane.spans, lane.busy_s,
                                 share_of(lane.busy_s, seconds));
  const bool moved = lane.bytes > 0 && lane.busy_s > 0;
  text += fmt::format("{:>13}", moved ? pinned_pool::format_bytes(lane.bytes) : "-");
  text += moved ? fmt::format("{:>11.2f} GB/s", static_cast<double>(lane.bytes) / lane.busy_s / 1e9)
                : fmt::format("{:>16}", "-");
  text += fmt::format("{:>9}", can_hide ? share_of(lane.hidden_s, lane.busy_s) : "-");
  return text + "\n";
}

bool can_hide(Lane lane) {
  return lane == Lane::kOptimizer || lane == Lane::kCopy || lane == Lane::kRead ||
         lane == Lane::kWrite;
}

}  // namespace

Intervals busy(const std::vector<TracedSpan>& spans) {
  Intervals intervals;
  for (const TracedSpan& span : spans) append(&intervals, {span.start_s, span.end_s});
  return intervals;
}

Intervals united(const Intervals& a, const Intervals& b) {
  Intervals both;
  both.reserve(a.size() + b.size());
  std::merge(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both),
             [](const Interval& x, const Interval& y) { return x.start_s < y.start_s; });
  Intervals result;
  for (const Interval& interval : both) append(&result, interval);
  return result;
}

Intervals common(const Intervals& a, const Intervals& b) {
  Intervals result;
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const double start = std::max(a[i].start_s, b[j].start_s);
    const double end = std::min(a[i].end_s, b[j].end_s);
    if (start < end) result.push_back({start, end});
    a[i].end_s < b[j].end_s ? ++i : ++j;
  }
  return result;
}

Intervals rest(const Intervals& all, double seconds) {
  Intervals result;
  double from = 0;
  for (const Interval& interval : all) {
    if (interval.start_s > from) result.push_back({from, interval.start_s});
    from = std::max(from, interval.end_s);
  }
  if (seconds > from) result.push_back({from, seconds});
  return result;
}

double length(const Intervals& intervals) {
  double sum = 0;
  for (const Interval& interval : intervals) sum += interval.end_s - interval.start_s;
  return sum;
}

TraceSummary summarise(const TraceFile& trace) {
  TraceSummary summary;
  summary.process = trace.process;
  summary.seconds = trace.seconds;
  summary.dropped_spans = trace.dropped_spans;
  summary.steps = trace.lane(Lane::kStep).size();
  const Intervals computing = busy(trace.lane(Lane::kCompute));
  const Intervals all_computing = united(computing, busy(trace.lane(Lane::kOptimizer)));
  Intervals running;
  const auto summarise_lane = [&](const Intervals& intervals, Lane lane) {
    LaneSummary result;
    result.busy_s = length(intervals);
    if (can_hide(lane)) {
      const bool update = lane == Lane::kOptimizer;
      result.hidden_s = length(common(intervals, update ? computing : all_computing));
    }
    return result;
  };
  for (std::size_t i = 0; i < trainer::kLanes; ++i) {
    const Lane lane = static_cast<Lane>(i);
    const Intervals intervals = busy(trace.lanes[i]);
    summary.lanes[i] = summarise_lane(intervals, lane);
    summary.lanes[i].spans = trace.lanes[i].size();
    for (const TracedSpan& span : trace.lanes[i]) summary.lanes[i].bytes += span.bytes;
    if (lane != Lane::kStep && lane != Lane::kWait) running = united(running, intervals);
  }
  const Intervals storage = united(busy(trace.lane(Lane::kRead)), busy(trace.lane(Lane::kWrite)));
  summary.storage = summarise_lane(storage, Lane::kRead);
  for (const Lane lane : {Lane::kRead, Lane::kWrite}) {
    summary.storage.spans += summary.lane(lane).spans;
    summary.storage.bytes += summary.lane(lane).bytes;
  }
  summary.nothing = rest(running, trace.seconds);
  summary.nothing_s = length(summary.nothing);
  std::stable_sort(summary.nothing.begin(), summary.nothing.end(),
                   [](const Interval& a, const Interval& b) {
                     return a.end_s - a.start_s > b.end_s - b.start_s;
                   });
  return summary;
}

std::string as_text(const TraceSummary& summary) {
  std::string text = fmt::format("{}: {} step{} in {:.3f} s\n", summary.process, summary.steps,
                                 summary.steps == 1 ? "" : "s", summary.seconds);
  text += fmt::format("  {:<18}{:>8}{:>13}{:>8}{:>13}{:>16}{:>9}\n", "lane", "spans", "busy",
                      "share", "moved", "while busy", "hidden");
  for (const Lane lane :
       {Lane::kCompute, Lane::kOptimizer, Lane::kCopy, Lane::kRead, Lane::kWrite}) {
    text += line(trainer::name_of(lane), summary.lane(lane), summary.seconds, can_hide(lane));
  }
  text += line("read or write", summary.storage, summary.seconds, true);
  text += line(trainer::name_of(Lane::kWait), summary.lane(Lane::kWait), summary.seconds, false);
  text +=
      "  hidden: the share of a lane's time in which forward, backward or the update computed too\n"
      "  (of the optimizer's: in which forward or backward did)\n";
  text += fmt::format("  nothing ran for {:.3f} s ({})", summary.nothing_s,
                      share_of(summary.nothing_s, summary.seconds));
  for (std::size_t i = 0; i < std::min(kGapsShown, summary.nothing.size()); ++i) {
    const Interval& gap = summary.nothing[i];
    text += fmt::format("{} {:.1f} ms from {:.3f} s on", i == 0 ? "; the longest:" : ",",
                        (gap.end_s - gap.start_s) * 1e3, gap.start_s);
  }
  text += "\n";
  if (summary.dropped_spans > 0) {
    text += fmt::format("  {} spans did not fit into the trace: the figures are of the others\n",
                        summary.dropped_spans);
  }
  return text;
}

std::string as_json(const TraceSummary& summary) {
  const auto lane_json = [](const LaneSummary& lane) {
    return nlohmann::ordered_json{{"spans", lane.spans},
                                  {"busy_seconds", lane.busy_s},
                                  {"hidden_seconds", lane.hidden_s},
                                  {"bytes", lane.bytes}};
  };
  nlohmann::ordered_json out{{"process", summary.process},
                             {"steps", summary.steps},
                             {"seconds", summary.seconds},
                             {"nothing_ran_seconds", summary.nothing_s},
                             {"dropped_spans", summary.dropped_spans}};
  for (std::size_t i = 0; i < trainer::kLanes; ++i) {
    out["lanes"][trainer::name_of(static_cast<Lane>(i))] = lane_json(summary.lanes[i]);
  }
  out["lanes"]["read or write"] = lane_json(summary.storage);
  return out.dump(2, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

}  // namespace spillway::tools
