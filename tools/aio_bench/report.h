// All that is known of one target when it has been measured.
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
  std::vector<std::string> notes = {};  // what was left out, and why
  std::vector<CellResult> results = {};
  Recommendation recommendation = {};
  std::vector<FioPairs> fio = {};
  std::string fio_note = {};  // why there is no comparison, or what to know about it
};

// The DeepSpeed-style section, with what it was tuned on and what was measured (read by spillway,
// passed over by DeepSpeed).
nlohmann::ordered_json aio_block(const Report& report);

}  // namespace spillway::aio_bench
