#include "tools/spillway/trace/file.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

namespace spillway::tools {
namespace {

using nlohmann::json;

std::optional<std::size_t> lane_named(const std::string& name) {
  for (std::size_t lane = 0; lane < trainer::kLanes; ++lane) {
    if (name == trainer::name_of(static_cast<trainer::Lane>(lane))) return lane;
  }
  return std::nullopt;
}

// Throws json::exception when the event has not the shape of one.
void take(const json& event, TraceFile* trace) {
  if (event.value("ph", "") != "X") return;
  const auto lane = lane_named(event.value("cat", ""));
  if (!lane) return;
  TracedSpan span;
  span.name = event.at("name").get<std::string>();
  span.start_s = event.at("ts").get<double>() / 1e6;
  const double seconds = event.at("dur").get<double>() / 1e6;
  // A year: numbers that no run writes would make a drawing without end.
  if (!(std::abs(span.start_s) < 3.2e7) || !(seconds >= 0 && seconds < 3.2e7)) {
    throw json::other_error::create(501, "a span outside any run", nullptr);
  }
  span.end_s = span.start_s + seconds;
  if (event.contains("args")) span.bytes = event["args"].value("bytes", std::uint64_t{0});
  trace->lanes[*lane].push_back(std::move(span));
}

// Spans are taken while the text is read and not kept as JSON, which takes many times their size.
json parse(std::istream& file, TraceFile* trace) {
  constexpr int kEventDepth = 2;
  return json::parse(file, [trace](int depth, json::parse_event_t what, json& value) {
    if (depth != kEventDepth || what != json::parse_event_t::object_end) return true;
    take(value, trace);
    return false;
  });
}

}  // namespace

Result<TraceFile> read_trace(const std::filesystem::path& path) {
  const auto invalid = [&](const std::string& why) {
    return make_error(ErrorKind::kInvalid, "read trace", path.string(), why);
  };
  errno = 0;
  std::ifstream file(path);
  if (!file) return errno_error("read trace", path.string(), errno == 0 ? EIO : errno);
  TraceFile trace;
  try {
    const json root = parse(file, &trace);
    if (!root.is_object() || !root.contains("traceEvents")) {
      return invalid("it is no trace: it has no traceEvents");
    }
    const json other = root.value("otherData", json::object());
    trace.process = other.value("process", "");
    trace.dropped_spans = other.value("dropped_spans", std::uint64_t{0});
  } catch (const json::exception& wrong) {
    return invalid(std::string("it is no trace: ") + wrong.what());
  }
  double first = std::numeric_limits<double>::max();
  double last = std::numeric_limits<double>::lowest();
  for (const auto& lane : trace.lanes) {
    for (const TracedSpan& span : lane) {
      first = std::min(first, span.start_s);
      last = std::max(last, span.end_s);
    }
  }
  if (first > last) return invalid("it has no spans of a training run");
  trace.seconds = last - first;
  for (auto& lane : trace.lanes) {
    for (TracedSpan& span : lane) {
      span.start_s -= first;
      span.end_s -= first;
    }
    std::sort(lane.begin(), lane.end(),
              [](const TracedSpan& a, const TracedSpan& b) { return a.start_s < b.start_s; });
  }
  return trace;
}

}  // namespace spillway::tools
