// Console: what `spillway train` prints while a run goes on: lines, and a status line per step or,
// on a terminal, a progress bar.
#pragma once

#include <spillway/trainer/run.h>

#include <cstdint>
#include <string>
#include <vector>

namespace spillway::tools {

class Console final : public trainer::RunObserver {
 public:
  // `ranks` outlives this.
  explicit Console(const trainer::Communicator& ranks);

  // Prints the model, the batch, and what the user should know of the configuration. The run
  // outlives the calls of the functions below.
  void announce(const trainer::Run& run, const std::string& model,
                const std::vector<trainer::KeyReport>& keys);
  // Sets how many steps were done before this run.
  void set_done(std::uint64_t steps) { done_ = steps; }
  // Ends the progress bar's line.
  void finish();

  void progress(const std::string& line) override;
  void advice(const std::string& line) override { progress("note: " + line); }
  void resumed(const trainer::CheckpointLoaded& checkpoint) override;
  void weights_loaded(const trainer::InitialWeightsLoaded& weights) override;
  void step(const trainer::StepFigures& figures) override;
  void saved(const trainer::CheckpointSaved& checkpoint) override;
  void stopped(std::uint64_t step) override;
  void trace_failed(const Error& error) override;

 private:
  std::string status_line(const trainer::StepFigures& figures) const;

  const trainer::Communicator& ranks_;
  const trainer::RunInput* input_ = nullptr;
  std::uint64_t memory_bytes_;  // what this process may use: the cgroup's limit or the machine's
  std::uint64_t done_ = 0;
  double seconds_ = 0;  // of all steps so far
  bool terminal_;
  bool bar_open_ = false;
};

}  // namespace spillway::tools
