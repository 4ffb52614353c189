// Run: one training from its data to its last checkpoint, as `spillway train` does it.
//
// A Run makes the model and its engine, goes on from a checkpoint if there is one, trains,
// evaluates and saves. It prints nothing, reads no signals and never exits: it tells a RunObserver
// what happens, and the caller's flags stop it. All ranks make a Run with the same input and call
// the same functions in the same order. One thread. All calls block and throw Failure and
// Interrupted. The communicator, the observer and the flags outlive the Run.
#pragma once

#include <spillway/trainer/checkpoint_save.h>
#include <spillway/trainer/communicator.h>
#include <spillway/trainer/config.h>
#include <spillway/trainer/data.h>
#include <spillway/trainer/model.h>
#include <spillway/trainer/run_report.h>
#include <spillway/trainer/trace.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace spillway::trainer {

class InitialWeights;
class MetricsFile;
class ModelInUse;
class RunCheckpoints;
class TraceFile;
struct GenerateOptions;

struct CheckpointOptions {
  std::filesystem::path directory = {};  // empty: saves nothing
  std::uint64_t every = 0;               // steps between saves; 0: saves at the end only
  KeepRule keep = {};
  // true: go on from the newest checkpoint in `directory`, if there is one. false: refuse a
  // directory that holds checkpoints. Unset: true if there is a directory.
  std::optional<bool> resume = {};
  std::filesystem::path resume_from = {};  // a checkpoint, or a directory: its newest one
};

struct TraceFileOptions {
  std::filesystem::path path = {};  // of rank 0's trace; empty: none
  TraceOptions trace = {};
  std::string process = "training";  // what the trace is of, for its reader
};

// Flags that any thread or signal handler may set. May be null.
struct StopFlags {
  const std::atomic<bool>* now = nullptr;         // throws Interrupted soon
  const std::atomic<bool>* after_step = nullptr;  // saves, and ends train(); ignored if the run
                                                  // saves nothing
};

// What messages call the caller's settings: `spillway train` puts its own options here.
struct SettingNames {
  std::string directory = "checkpoints.directory";
  std::string keep = "checkpoints.keep.newest";
  std::string resume = "checkpoints.resume = true";
  std::string no_resume = "checkpoints.resume = false";
  std::string resume_from = "checkpoints.resume_from =";
  std::string init_from = "init_from";
};

struct RunInput {
  ModelConfigPtr model;
  Config config;  // of load_config(), for this number of ranks
  TokenFile data;
  std::optional<TokenFile> eval_data = {};
  std::uint32_t context = 0;  // tokens of a sample; 0: as many as the model has positions
  at::Device device = at::kCPU;
  std::uint64_t steps = 100;             // in all, those before a resumed checkpoint included
  std::uint64_t eval_every = 0;          // steps; 0: after the last one only
  std::uint64_t eval_samples = 64;       // of one evaluation
  std::filesystem::path init_from = {};  // directory of weights in Hugging Face's layout
  CheckpointOptions checkpoints = {};
  std::filesystem::path metrics = {};  // file for a JSON object per step; empty: none
  TraceFileOptions trace = {};
  StopFlags stop = {};
  SettingNames names = {};
};

enum class RunEnd { kFinished, kStopped, kNothingToDo };

class Run {
 public:
  // Checks the input, locks the checkpoint directory and makes the engine. `observer` may be null.
  Run(RunInput input, Communicator& ranks, RunObserver* observer = nullptr);
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  // Loads the checkpoint to go on from, or else the weights of `init_from`. Returns the steps that
  // are done. The functions below call it first unless the caller has.
  std::uint64_t load();
  // Trains up to the last step, evaluates and saves on the way. kNothingToDo: the checkpoint that
  // was loaded has all steps.
  RunEnd train();
  // Mean loss over `eval_samples` samples of the held-out data, in nats per token. The same samples
  // each time. REQUIRES: eval_data.
  double evaluate();
  // Continues `prompt` token by token; all ranks get the same tokens.
  std::vector<std::int64_t> generate(std::vector<std::int64_t> prompt,
                                     const GenerateOptions& options);
  // Writes the trace. Nothing if none was asked for, or on other ranks than 0. A Run that ends
  // without it writes the trace by its destructor.
  std::optional<TraceWritten> write_trace();

  const RunInput& input() const noexcept { return input_; }
  // The engine, for steps and passes of the caller's own.
  // Returns the engine, for steps of the caller's own.
  ZeroEngine& engine() noexcept { return *engine_; }
  std::uint64_t parameter_count() const;
  std::size_t unit_count() const;
  // How the states got their places, a line each.
  const std::vector<std::string>& placement_notes() const;
  RunSummary summary() const;
  MemoryMap memory_map() const;

 private:
  bool evaluates(std::uint64_t step) const;
  bool train_steps();

  RunInput input_;
  Communicator& ranks_;
  RunObserver silent_;
  RunObserver& observer_;
  std::unique_ptr<TraceFile> trace_;
  std::unique_ptr<ModelInUse> model_;
  std::unique_ptr<InitialWeights> initial_;
  std::unique_ptr<ZeroEngine> engine_;
  std::unique_ptr<RunCheckpoints> checkpoints_;  // what is being saved are the engine's states
  std::unique_ptr<MetricsFile> metrics_;
  std::optional<std::uint64_t> done_;  // steps, once load() has run
  RunTotals totals_;
};

}  // namespace spillway::trainer
