// The machine that `spillway estimate` reckons with: its speeds and its room, and where each figure
// is from.
#pragma once

#include <spillway/trainer/estimate.h>
#include <spillway/trainer/model.h>
#include "trainer/plan/step_time.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace spillway::tools {

// As given on the command line; 0 and empty: not given.
struct MachineOptions {
  std::string gpu;
  double tflops = 0;  // of the device or this CPU, at best
  double efficiency = 0.5;
  double pcie_gb_s = 0;
  double gpu_memory_gib = 0;
  std::string drive;  // a file of aio_bench --json
  double read_gb_s = 0, write_gb_s = 0, mix_gb_s = 0;
  bool measure_drive = false;
  bool measure_cpu = true;
  double ram_gib = 0;
  double nvme_gib = 0;
  std::string checkpoint_dir;
  std::uint64_t keep = 2;
};

// Where checkpoints go, and how many of them are there at a time.
struct SavedWhere {
  std::string directory;
  std::uint64_t at_most = 0;  // those that stay, and the one being written
  bool linked = false;        // on the filesystem of the swap files: links of them
  std::uint64_t free_bytes = ~std::uint64_t{0};
};

struct Machine {
  trainer::MachineSpeeds speeds;
  bool times_known = false;         // enough is known for seconds per step
  double compute_scale = 1;         // working memory of units on this CPU, of the formula's
  std::uint64_t program_bytes = 0;  // RAM of the program itself; 0: unknown
  static constexpr std::uint64_t kUnknown = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t ram_bytes = kUnknown;
  std::uint64_t device_bytes = kUnknown;
  std::uint64_t nvme_bytes = kUnknown;
  std::optional<SavedWhere> saved;   // when --checkpoint-dir says that checkpoints are made
  std::vector<std::string> sources;  // "compute 0.12 TFLOPS: this CPU, ...", a line each
  std::vector<std::string> missing;  // what is not known, and how to say it
};

// Measures what is not given and can be measured. Errors: a drive's file that is none, a GPU of no
// known name, a drive that cannot be measured.
Result<Machine> find_machine(const MachineOptions& options, const trainer::EstimateInput& input,
                             const trainer::ModelConfig& model);

}  // namespace spillway::tools
