// Report: the results of one target.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "figures.h"
#include "pass.h"
#include "recommend.h"
#include "target.h"

namespace spillway::aio_bench {

// The engine and fio with one setting, turn by turn.
struct FioPairs {
  Workload workload = Workload::kMix;
  Setting setting;
  std::vector<double> engine_gb_per_second = {};
  std::vector<double> fio_gb_per_second = {};

  double share() const;  // the engine's median by fio's
};

struct Report {
  Target target;
  EngineTrial engine;
  std::uint64_t file_bytes = 0;
  std::string file_choice = {};  // why it has that size
  double fill_gb_per_second = 0;
  int read_percent = 50;
  std::size_t settings_tried = 0;
  std::vector<std::string> notes = {};  // skipped parts, and the reasons
  std::vector<CellResult> results = {};
  Recommendation recommendation = {};
  std::vector<FioPairs> fio = {};
  std::string fio_note = {};  // why there is no comparison, or what to know about it
};

// Returns the DeepSpeed-style section, with the drive that was tuned, the speeds that were
// measured and how far their passes differed (spillway reads them, DeepSpeed ignores them).
nlohmann::ordered_json aio_block(const Report& report);

}  // namespace spillway::aio_bench
