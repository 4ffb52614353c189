// A trace read back from the file that `spillway train --trace` wrote.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/trainer/trace.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace spillway::tools {

struct TracedSpan {
  std::string name;
  double start_s = 0;  // from the first span of the file
  double end_s = 0;
  std::uint64_t bytes = 0;
};

struct TraceFile {
  std::string process;
  std::uint64_t dropped_spans = 0;
  std::array<std::vector<TracedSpan>, trainer::kLanes> lanes;  // each by start
  double seconds = 0;                                          // from the first to the last end

  const std::vector<TracedSpan>& lane(trainer::Lane lane) const {
    return lanes[static_cast<std::size_t>(lane)];
  }
};

// kInvalid when it is no trace of spillway, or one without spans.
Result<TraceFile> read_trace(const std::filesystem::path& path);

}  // namespace spillway::tools
