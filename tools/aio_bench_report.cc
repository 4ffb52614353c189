#include "aio_bench_report.h"

#include <fmt/format.h>
#include <unistd.h>

#include <spillway/pinned_pool/limits.h>
#include <algorithm>
#include <cerrno>
#include <fstream>
#include <map>
#include <thread>
#include <tuple>

namespace spillway::aio_bench {
namespace {

using pinned_pool::format_bytes;
using pinned_pool::MemoryLimits;

constexpr double kWithin = 0.03;      // of the best: as good as the best
constexpr double kLargeSwing = 0.10;  // from here on the reader is told to measure again

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

template <typename Figure>
double median_of(const std::vector<Measurement>& repetitions, Figure figure) {
  std::vector<double> values;
  for (const Measurement& one : repetitions) values.push_back(figure(one));
  return median(std::move(values));
}

const char* name_of(aio::Direction direction) {
  return direction == aio::Direction::kRead ? "read" : "write";
}

std::string setting(const Cell& cell) {
  return fmt::format("blocks of {}, depth {}, {} thread{}", short_size(cell.block_size_bytes),
                     cell.queue_depth, cell.thread_count, cell.thread_count == 1 ? "" : "s");
}

std::string memory_lock() {
  const MemoryLimits limits = MemoryLimits::read();
  return limits.memlock_bytes == MemoryLimits::kUnlimited ? "unlimited"
                                                          : format_bytes(limits.memlock_bytes);
}

std::string device_of(const aio::PathProbe& probe) {
  if (probe.block_device.empty()) return "none";
  return fmt::format("{}, {}, {}, scheduler {}, NUMA node {}", probe.block_device,
                     probe.device_model.empty() ? "model unknown" : probe.device_model,
                     probe.rotational ? "reported as rotating" : "not rotating",
                     probe.scheduler.empty() ? "unknown" : probe.scheduler,
                     probe.numa_node < 0 ? "unknown" : std::to_string(probe.numa_node));
}

}  // namespace

double CellResult::median_gb_per_second() const {
  return median_of(repetitions, [](const Measurement& m) { return m.gb_per_second(); });
}
double CellResult::slowest_gb_per_second() const {
  return std::ranges::min(repetitions, {}, &Measurement::gb_per_second).gb_per_second();
}
double CellResult::fastest_gb_per_second() const {
  return std::ranges::max(repetitions, {}, &Measurement::gb_per_second).gb_per_second();
}
double CellResult::cpu_seconds_per_gb() const {
  return median_of(repetitions, [](const Measurement& m) {
    return m.cpu_seconds / (static_cast<double>(m.bytes) / 1e9);
  });
}
double CellResult::cpu_percent() const {
  return median_of(repetitions,
                   [](const Measurement& m) { return 100 * m.cpu_seconds / m.seconds; });
}
double CellResult::system_calls_per_gb() const {
  return median_of(repetitions, [](const Measurement& m) {
    return static_cast<double>(m.system_calls) / (static_cast<double>(m.bytes) / 1e9);
  });
}

Recommendation recommend(const std::vector<CellResult>& results) {
  struct Setting {
    Cell cell;
    double seconds_per_gb = 0;
    int directions = 0;
    double swing = 0;
    double gb_per_second() const { return directions / seconds_per_gb; }
  };
  std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>, Setting> settings;
  for (const CellResult& result : results) {
    const Cell& cell = result.cell;
    Setting& one = settings[{cell.block_size_bytes, cell.queue_depth, cell.thread_count}];
    one.cell = cell;
    one.seconds_per_gb += 1 / result.median_gb_per_second();
    ++one.directions;
    one.swing =
        std::max(one.swing, (result.fastest_gb_per_second() - result.slowest_gb_per_second()) /
                                result.median_gb_per_second());
  }
  const auto rate = [](const auto& entry) { return entry.second.gb_per_second(); };
  const Setting best = std::ranges::max_element(settings, {}, rate)->second;
  Setting chosen = best;
  const auto cost = [](const Cell& cell) {
    return std::tuple(cell.in_flight_bytes(), cell.thread_count, cell.queue_depth);
  };
  for (const auto& [key, one] : settings) {
    const bool as_good = one.gb_per_second() >= (1 - kWithin) * best.gb_per_second();
    if (as_good && cost(one.cell) < cost(chosen.cell)) chosen = one;
  }
  return {.cell = chosen.cell,
          .best = best.cell,
          .gb_per_second = chosen.gb_per_second(),
          .best_gb_per_second = best.gb_per_second(),
          .swing = std::max(chosen.swing, best.swing)};
}

nlohmann::ordered_json aio_block(const Cell& cell) {
  return {{"block_size", cell.block_size_bytes},
          {"queue_depth", cell.queue_depth},
          {"intra_op_parallelism", cell.thread_count},
          {"single_submit", false},
          {"overlap_events", true}};
}

void print_card(const Options& options, const aio::PathProbe& probe, const EngineTrial& engine) {
  const auto line = [](const char* name, const std::string& value) {
    fmt::print("  {:<13}{}\n", name, value);
  };
  fmt::print("Target\n");
  line("path", probe.path);
  line("filesystem", probe.filesystem);
  line("device", device_of(probe));
  line("engine", engine.choice);
  line("alignment",
       fmt::format("memory {}, offset {} bytes", probe.memory_alignment, probe.offset_alignment));
  line("free space", format_bytes(probe.free_bytes) + " of " + format_bytes(probe.size_bytes));
  line("memory lock", memory_lock());
  line("processors", std::to_string(std::thread::hardware_concurrency()));
  line("test file", fmt::format("{} of incompressible data, {} passes a cell, median",
                                short_size(options.file_bytes), options.repetitions));
  for (const aio::Capability& capability : probe.capabilities) {
    if (!capability.available) line("note", capability.name + ": " + capability.reason);
  }
  for (const std::string& note : engine.notes) line("note", note);
  fmt::print("\n");
}

void print_table(const std::vector<CellResult>& results) {
  fmt::print("{:<9} {:>6} {:>6} {:>8} {:>8} {:>15} {:>6} {:>9} {:>9}\n", "direction", "block",
             "depth", "threads", "GB/s", "(min - max)", "CPU %", "CPU s/GB", "calls/GB");
  for (const CellResult& result : results) {
    const Cell& cell = result.cell;
    const std::string range = fmt::format("({:.2f} - {:.2f})", result.slowest_gb_per_second(),
                                          result.fastest_gb_per_second());
    fmt::print("{:<9} {:>6} {:>6} {:>8} {:>8.2f} {:>15} {:>6.0f} {:>9.3f} {:>9.0f}\n",
               name_of(cell.direction), short_size(cell.block_size_bytes), cell.queue_depth,
               cell.thread_count, result.median_gb_per_second(), range, result.cpu_percent(),
               result.cpu_seconds_per_gb(), result.system_calls_per_gb());
  }
}

void print_recommendation(const Recommendation& found) {
  fmt::print("\nRecommended: {}\n", setting(found.cell));
  if (found.cell.in_flight_bytes() == found.best.in_flight_bytes()) {
    fmt::print(
        "  the fastest, {:.2f} GB/s, and none with less in flight comes within {:.0f}% of it\n",
        found.gb_per_second, 100 * kWithin);
  } else {
    fmt::print(
        "  {:.2f} GB/s, within {:.0f}% of the fastest ({:.2f} GB/s with {}), and holds {} in "
        "flight instead of {}\n",
        found.gb_per_second, 100 * kWithin, found.best_gb_per_second, setting(found.best),
        format_bytes(found.cell.in_flight_bytes()), format_bytes(found.best.in_flight_bytes()));
  }
  if (found.swing > kLargeSwing) {
    fmt::print(
        "  but passes of one cell differ by up to {:.0f}%: measure again when the machine is "
        "quieter, or with more --repetitions\n",
        100 * found.swing);
  }
  fmt::print("\n\"aio\": {}\n", aio_block(found.cell).dump(2));
}

Result<void> write_json(const std::filesystem::path& path, const Options& options,
                        const aio::PathProbe& probe, const EngineTrial& engine,
                        const std::vector<CellResult>& results,
                        const Recommendation& recommendation) {
  using Json = nlohmann::ordered_json;
  Json document = {{"target",
                    {{"path", probe.path},
                     {"filesystem", probe.filesystem},
                     {"block_device", probe.block_device},
                     {"device_model", probe.device_model},
                     {"rotational", probe.rotational},
                     {"scheduler", probe.scheduler},
                     {"numa_node", probe.numa_node},
                     {"engine", engine.choice},
                     {"memory_alignment", probe.memory_alignment},
                     {"offset_alignment", probe.offset_alignment},
                     {"free_bytes", probe.free_bytes},
                     {"notes", engine.notes}}},
                   {"file_bytes", options.file_bytes},
                   {"cells", Json::array()}};
  for (const CellResult& result : results) {
    Json repetitions = Json::array();
    for (const Measurement& one : result.repetitions) {
      repetitions.push_back({{"gb_per_second", one.gb_per_second()},
                             {"seconds", one.seconds},
                             {"cpu_seconds", one.cpu_seconds},
                             {"system_calls", one.system_calls}});
    }
    document["cells"].push_back({{"direction", name_of(result.cell.direction)},
                                 {"block_size", result.cell.block_size_bytes},
                                 {"queue_depth", result.cell.queue_depth},
                                 {"threads", result.cell.thread_count},
                                 {"gb_per_second", result.median_gb_per_second()},
                                 {"cpu_percent", result.cpu_percent()},
                                 {"cpu_seconds_per_gb", result.cpu_seconds_per_gb()},
                                 {"repetitions", std::move(repetitions)}});
  }
  document["recommendation"] = {{"gb_per_second", recommendation.gb_per_second},
                                {"best_gb_per_second", recommendation.best_gb_per_second},
                                {"swing", recommendation.swing}};
  document["aio"] = aio_block(recommendation.cell);

  const std::filesystem::path written = path.string() + ".tmp";
  std::ofstream file(written);
  file << document.dump(2) << '\n';
  file.close();
  std::error_code failure;
  if (file) std::filesystem::rename(written, path, failure);
  if (!file || failure) {
    const int cause = failure ? failure.value() : errno;
    std::filesystem::remove(written, failure);
    return errno_error("write", path.string(), cause);
  }
  return {};
}

}  // namespace spillway::aio_bench
