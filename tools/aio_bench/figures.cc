#include "figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace spillway::aio_bench {
namespace {

template <typename Figure>
double median_of(const std::vector<Measurement>& repetitions, Figure figure) {
  std::vector<double> values;
  for (const Measurement& one : repetitions) values.push_back(figure(one));
  return median(std::move(values));
}

template <typename Results>
auto* find_in(Results& results, Workload workload, const Setting& setting) {
  const auto at = std::ranges::find_if(results, [&](const CellResult& result) {
    return result.workload == workload && result.setting == setting;
  });
  return at == results.end() ? nullptr : &*at;
}

constexpr double kFar = 0.15;        // of the others' median
constexpr double kFarInSpreads = 2;  // and of the others' spread

}  // namespace

std::optional<std::size_t> lone_outlier(const std::vector<Measurement>& repetitions) {
  if (repetitions.size() < 3) return std::nullopt;
  for (std::size_t i = 0; i < repetitions.size(); ++i) {
    CellResult others;
    others.repetitions = repetitions;
    others.repetitions.erase(others.repetitions.begin() + static_cast<std::ptrdiff_t>(i));
    const double away = std::abs(repetitions[i].gb_per_second() / others.gb_per_second() - 1);
    if (away > kFar && away > kFarInSpreads * others.spread()) return i;
  }
  return std::nullopt;
}

std::string rate_text(double gb_per_second) {
  const int before =
      gb_per_second > 0 ? static_cast<int>(std::floor(std::log10(gb_per_second))) : 0;
  return fmt::format("{:.{}f}", gb_per_second, std::clamp(2 - before, 0, 5));
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

double CellResult::gb_per_second() const {
  return median_of(repetitions, [](const Measurement& m) { return m.gb_per_second(); });
}
double CellResult::cpu_seconds_per_gb() const {
  return median_of(repetitions, [](const Measurement& m) { return m.cpu_seconds / m.gb(); });
}
double CellResult::cpu_percent() const {
  return median_of(repetitions,
                   [](const Measurement& m) { return 100 * m.cpu_seconds / m.seconds; });
}
double CellResult::system_calls_per_gb() const {
  return median_of(repetitions, [](const Measurement& m) {
    return static_cast<double>(m.system_calls) / m.gb();
  });
}
double CellResult::p50_us() const {
  return median_of(repetitions, [](const Measurement& m) { return m.p50_us; });
}
double CellResult::p99_us() const {
  return median_of(repetitions, [](const Measurement& m) { return m.p99_us; });
}
double CellResult::slowest_gb_per_second() const {
  return std::ranges::min(repetitions, {}, &Measurement::gb_per_second).gb_per_second();
}
double CellResult::fastest_gb_per_second() const {
  return std::ranges::max(repetitions, {}, &Measurement::gb_per_second).gb_per_second();
}
double CellResult::spread() const {
  return (fastest_gb_per_second() - slowest_gb_per_second()) / gb_per_second();
}

const CellResult* find(const std::vector<CellResult>& results, Workload workload,
                       const Setting& setting) {
  return find_in(results, workload, setting);
}
CellResult* find(std::vector<CellResult>& results, Workload workload, const Setting& setting) {
  return find_in(results, workload, setting);
}

}  // namespace spillway::aio_bench
