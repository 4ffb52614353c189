#include "report.h"

#include <cmath>

#include "thread_knob.h"

namespace spillway::aio_bench {
namespace {

// Three digits say what a drive does; more would change with every run.
double rounded(double gb_per_second) {
  const double scale = std::pow(10, 2 - std::floor(std::log10(gb_per_second)));
  return std::round(gb_per_second * scale) / scale;
}

}  // namespace

double FioPairs::share() const { return median(engine_gb_per_second) / median(fio_gb_per_second); }

nlohmann::ordered_json aio_block(const Report& report) {
  const Setting& setting = report.recommendation.setting;
  nlohmann::ordered_json tuned = {{"device", report.target.device()},
                                  {"filesystem", report.target.filesystem()}};
  const auto add = [&](Workload workload, const char* key) {
    const CellResult* cell = find(report.results, workload, setting);
    if (cell != nullptr) tuned[key] = rounded(cell->gb_per_second());
  };
  add(Workload::kRead, "read_gb_per_second");
  add(Workload::kWrite, "write_gb_per_second");
  add(Workload::kMix, "mix_gb_per_second");
  const CellResult* ranked = find(report.results, report.recommendation.ranked_by, setting);
  if (ranked != nullptr && ranked->repetitions.size() > 1) {
    tuned["spread"] = std::round(ranked->spread() * 1000) / 1000;
  }
  return {{"block_size", setting.block_size_bytes},
          {"queue_depth", setting.queue_depth},
          {kThreadKnob, setting.thread_count},
          {"single_submit", false},
          {"overlap_events", true},
          {"tuned", tuned}};
}

}  // namespace spillway::aio_bench
