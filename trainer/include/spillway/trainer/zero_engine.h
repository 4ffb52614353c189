// ZeroEngine: a model whose states live where the configuration says, and the steps that train it.
//
// This is all a program needs to train a model of its own: describe the units (ModelSpec), make
// the engine, and call `step` with a function that computes the loss by zero::run. One thread.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/trainer/communicator.h>
#include <spillway/trainer/config.h>
#include <spillway/trainer/unit.h>
#include <spillway/trainer/zero.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace spillway::trainer {

class ActivationStore;
class GradientStore;
class ModelStates;
class Trace;
class WeightFetcher;

// What one step did, on this rank.
struct StepReport {
  std::uint64_t step = 0;  // from 1
  double loss = 0;         // of the global batch, before the update
  double grad_norm = 0;    // before clipping, all ranks
  double learning_rate = 0;
  double seconds = 0;
  double io_wait_seconds = 0;      // the computation waited for reads or the update
  double update_wait_seconds = 0;  // the part of it that was for the update
  double compute_seconds = 0;      // forward, backward, and an update that is not in the background
  // After backward: norm, clipping and an update that is not in the background. The norms that
  // backward took of gradients as they came are counted here too.
  double optimizer_seconds = 0;
  // The kernel of the update while this step ran. A background update may be the step before's.
  double update_seconds = 0;
  double update_drive_busy_seconds = 0;  // of updates in this step: transfers in flight
  double update_drive_idle_seconds = 0;  // they waited for computing, or for memory
  // Tiles that were updated during backward, on the assumption that the norm is not clipped.
  struct SpeculativeTiles {
    std::size_t kept = 0;
    std::size_t rolled_back = 0;
  };
  SpeculativeTiles speculative_tiles;
  std::uint64_t nvme_read_bytes = 0;  // by this rank since the step before, inference apart
  std::uint64_t nvme_written_bytes = 0;
};

class ZeroEngine {
 public:
  // Computes this rank's share of the global batch's loss; the sum over ranks is the loss. The loss
  // has a graph made by zero::run with the given pass. `step` runs backward; the function must not.
  using LossFunction = std::function<at::Tensor(zero::Pass&)>;

  // Makes the model and writes its initial values to their tiers, unless they are loaded later.
  // `stop` (may be null) makes any step throw Interrupted soon after it is set. Blocks. Throws
  // Failure.
  ZeroEngine(const Config& config, const ModelSpec& model, Communicator& communicator,
             at::Device device, const std::atomic<bool>* stop = nullptr,
             InitialValues initial = InitialValues::kOfSeed);
  ~ZeroEngine();
  ZeroEngine(const ZeroEngine&) = delete;
  ZeroEngine& operator=(const ZeroEngine&) = delete;

  // Runs forward, backward, clipping and the update of one global batch. Blocks. Throws Interrupted
  // and Failure; a non-finite gradient is a Failure, and nothing is updated then. Where the update
  // runs in the background (Config::update_order) `step` returns before it ends; the next call that
  // needs the update throws its error.
  StepReport step(const LossFunction& loss);
  // Waits until the last step's update is in its tiers. Reports the seconds, waits and bytes that
  // no step has reported yet. Call it at the end of training: an update that still runs when the
  // engine is destroyed is not reported. Throws as `step`.
  StepReport finish_update();

  // Waits for the update as `finish_update`, reports nothing, and returns the states as the last
  // step left them. No weights are in use until the next call of the engine; the caller may save or
  // replace the states.
  ModelStates& quiet_states();
  // Called with the states. `waited_seconds`: how long training waited for transfers to end.
  using UseStates = std::function<void(ModelStates& states, double waited_seconds)>;
  // Calls `use` once, at the next moment at which waiting for the states costs least: between
  // forward and backward of the next step, when its update is over and no other has started, or
  // before an inference pass or `quiet_states`. `use` may read and seal the states, not change
  // them. An exception of `use` leaves through the call that runs it. REQUIRES: no other `use` is
  // waiting.
  void when_quiet(UseStates use);
  // Makes the next step number `steps_done` + 1: the states are those of a checkpoint.
  void resume_after(std::uint64_t steps_done) noexcept;

  // Begins a pass without gradients and dropout, for evaluation and generation. It never disturbs
  // training.
  zero::Pass inference_pass();
  // Returns the sum over ranks, for losses computed with `inference_pass`.
  double sum_over_ranks(double value);

  // Records the steps from here on; null ends it. Give the trace's observer to Config::aio before
  // the engine is made. The trace must outlive the engine.
  void set_trace(Trace* trace);

  std::uint64_t steps_done() const noexcept;
  // Of the model, all ranks, without padding.
  std::uint64_t parameter_count() const;
  std::uint64_t trainable_parameter_count() const;

  // The parts that hold the model, for the rest of the library and for reports.
  const ModelStates& states() const noexcept;
  const GradientStore& gradients() const noexcept;
  const ActivationStore& activations() const noexcept;
  const WeightFetcher& fetcher() const noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace spillway::trainer
