// What a trace says: how busy each lane was, what of it hid behind computing, where nothing ran.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tools/spillway/trace/file.h"

namespace spillway::tools {

struct Interval {
  double start_s = 0;
  double end_s = 0;
};

// Ascending, apart from each other.
using Intervals = std::vector<Interval>;

Intervals busy(const std::vector<TracedSpan>& spans);
Intervals united(const Intervals& a, const Intervals& b);
Intervals common(const Intervals& a, const Intervals& b);
// What of [0, seconds] is in none.
Intervals rest(const Intervals& all, double seconds);
double length(const Intervals& intervals);

struct LaneSummary {
  std::size_t spans = 0;
  double busy_s = 0;  // at least one of its spans ran
  // While, for I/O and copies, forward, backward or the update computed; for the update, while
  // forward or backward did. 0 for the other lanes.
  double hidden_s = 0;
  std::uint64_t bytes = 0;
};

struct TraceSummary {
  std::string process;
  double seconds = 0;
  std::size_t steps = 0;
  std::uint64_t dropped_spans = 0;
  std::array<LaneSummary, trainer::kLanes> lanes;
  LaneSummary storage;  // reads and writes together
  Intervals nothing;    // no lane but "step" and "wait" had a span; the longest first
  double nothing_s = 0;

  const LaneSummary& lane(trainer::Lane lane) const {
    return lanes[static_cast<std::size_t>(lane)];
  }
};

TraceSummary summarise(const TraceFile& trace);
std::string as_text(const TraceSummary& summary);
std::string as_json(const TraceSummary& summary);

}  // namespace spillway::tools
