// What a Run reports: events while it goes on, and figures of its end.
//
// All figures are of this rank unless they say otherwise.
#pragma once

#include <spillway/aio/error.h>
#include <spillway/trainer/zero_engine.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace spillway::trainer {

struct StepFigures {
  StepReport report;
  std::uint64_t tokens = 0;         // of the global batch
  std::optional<double> eval_loss;  // of an evaluation after the step
};

struct CheckpointLoaded {
  std::filesystem::path path;
  std::uint32_t world_size = 1;  // ranks that saved it
  double seconds = 0;
};

struct CheckpointSaved {
  std::filesystem::path path;
  double seconds = 0;
  double waited_seconds = 0;  // of them, in which training waited
};

struct InitialWeightsLoaded {
  std::filesystem::path directory;
  std::size_t tensors = 0;
  std::string dtypes;  // "F32", or "F32, F16"
  std::size_t files = 0;
  double seconds = 0;
};

struct TraceWritten {
  std::filesystem::path path;
  std::size_t spans = 0;
  std::uint64_t dropped = 0;  // more spans, which did not fit
};

// RunObserver: receives the events of a Run. Threads: rank 0 calls it, on the thread that calls the
// Run.
class RunObserver {
 public:
  virtual ~RunObserver() = default;
  // A line about what the run does: which checkpoint it takes, what it removes.
  // Receive a line for the user, an event, or the figures of a step.
  virtual void progress(const std::string& /*line*/) {}
  virtual void advice(const std::string& /*line*/) {}  // the user should know
  // The states of a checkpoint are loaded.
  virtual void resumed(const CheckpointLoaded&) {}
  // The weights of RunInput::init_from are loaded.
  virtual void weights_loaded(const InitialWeightsLoaded&) {}
  // A step is done, and its evaluation if one was due.
  virtual void step(const StepFigures&) {}
  // A checkpoint is complete.
  virtual void saved(const CheckpointSaved&) {}
  virtual void stopped(std::uint64_t /*step*/) {}  // after it, as StopFlags::after_step asked
  // Of a Run that ends early: the trace of what it did cannot be written.
  virtual void trace_failed(const Error&) {}
};

// Sums over the steps of a Run.
struct RunTotals {
  std::uint64_t steps = 0;
  std::uint64_t nvme_read_bytes = 0;
  std::uint64_t nvme_written_bytes = 0;
  double seconds = 0;
  double compute_seconds = 0;
  double io_wait_seconds = 0;

  // Adds a step.
  // Adds one step.
  void add(const StepReport& report);
  // Adds what came after the last step: the end of its update.
  void add_rest(const StepReport& report);
};

// Bytes of one kind and where they are: {"optimizer states", "nvme", 1048576, 100663296}.
struct HeldBytes {
  std::string what;
  std::string where;
  std::uint64_t memory = 0;   // at their most, where that varies
  std::uint64_t storage = 0;  // on NVMe
};

struct RunSummary {
  std::vector<HeldBytes> held;
  std::uint64_t parameters = 0;  // of the model
  std::uint32_t world_size = 1;
  RunTotals totals;
  // NVMe traffic of a step if nothing were cached or padded, as traffic_per_parameter() computes
  // it.
  double expected_read_bytes = 0;
  double expected_written_bytes = 0;
};

// First and last, both included.
struct NumberRange {
  std::uint32_t first = 0;
  std::uint32_t last = 0;
};

struct ParameterPlace {
  std::string name;  // with its unit's: "transformer.h.3.ln_1.weight"
  std::string unit;
  std::uint64_t elements = 0;
  std::optional<NumberRange> tiles;  // of this rank; none: it holds no part of the parameter
  NumberRange ranks;                 // that hold it
  bool frozen = false;
};

struct MemoryMap {
  std::vector<std::string> details;  // of the tiers, a line each
  std::vector<ParameterPlace> parameters;
};

}  // namespace spillway::trainer
