#include "cell.h"

#include <fmt/format.h>

#include <array>
#include <tuple>

namespace spillway::aio_bench {

const char* name_of(Workload workload) {
  switch (workload) {
    case Workload::kRead:
      return "read";
    case Workload::kWrite:
      return "write";
    case Workload::kMix:
      return "mix";
  }
  return "";
}

std::optional<Workload> workload_of(std::string_view name) {
  for (const Workload workload : {Workload::kRead, Workload::kWrite, Workload::kMix}) {
    if (name == name_of(workload)) return workload;
  }
  return std::nullopt;
}

bool is_smaller(const Setting& a, const Setting& b) {
  const auto cost = [](const Setting& s) {
    return std::tuple(s.in_flight_bytes(), s.thread_count, s.queue_depth);
  };
  return cost(a) < cost(b);
}

std::vector<Setting> grid_of(const std::vector<std::uint32_t>& block_sizes,
                             const std::vector<std::uint32_t>& queue_depths,
                             const std::vector<std::uint32_t>& thread_counts) {
  std::vector<Setting> grid;
  for (const std::uint32_t block : block_sizes) {
    for (const std::uint32_t depth : queue_depths) {
      for (const std::uint32_t threads : thread_counts) grid.push_back({block, depth, threads});
    }
  }
  return grid;
}

std::string text_of(const Setting& setting) {
  return fmt::format("blocks of {}, depth {}, {} thread{}", short_size(setting.block_size_bytes),
                     setting.queue_depth, setting.thread_count,
                     setting.thread_count == 1 ? "" : "s");
}

std::string short_size(std::uint64_t bytes) {
  constexpr std::array kUnits = {"", "K", "M", "G", "T"};
  std::size_t unit = 0;
  while (bytes >= 1024 && bytes % 1024 == 0 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return std::to_string(bytes) + kUnits[unit];
}

}  // namespace spillway::aio_bench
