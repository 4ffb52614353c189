// ZeroEngine: a model whose states live where the configuration says, and the steps that train it.
//
// This is all a program needs to train a model of its own: describe the units (ModelSpec), make
// the engine, and call `step` with a function that computes the loss by zero::run. One thread.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/trainer/zero.h>
#include "trainer/states/model_states.h"
#include "trainer/stream/activation_store.h"
#include "trainer/stream/gradient_store.h"
#include "trainer/stream/optimizer_step.h"
#include "trainer/stream/weight_fetcher.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>

namespace spillway::trainer {

struct StepReport {
  std::uint64_t step = 0;  // from 1
  double loss = 0;         // of the global batch, before the update
  double grad_norm = 0;    // before clipping, all ranks
  double learning_rate = 0;
  double seconds = 0;
  double io_wait_seconds = 0;      // computing stood still: for reads, or for the update
  double update_wait_seconds = 0;  // the part of it that was for the update
  double compute_seconds = 0;      // forward, backward, and an update that is not in the background
  double optimizer_seconds = 0;  // after backward: norm, clipping, an update not in the background;
                                 // and the norms that backward took of gradients as they came
  double update_seconds = 0;     // the kernel of the update that ran in this step: in the
                                 // background that is, in part, the one of the step before
  double update_drive_busy_seconds = 0;  // of updates in this step: transfers were under way
  double update_drive_idle_seconds = 0;  // they waited for computing, or for memory
  BackgroundUpdate::AheadTiles ahead;    // that were updated during this step's backward
  std::uint64_t nvme_read_bytes = 0;     // by this rank since the step before, inference apart
  std::uint64_t nvme_written_bytes = 0;
};

class ZeroEngine {
 public:
  // This rank's share of the global batch's loss: summed over ranks it is the loss. It has a graph
  // made by zero::run with the given pass; backward is run by `step`, and not by the function.
  using LossFunction = std::function<at::Tensor(zero::Pass&)>;

  // Makes the model and, unless its values are to come, writes them to their tiers. Blocks; throws
  // Failure. `stop` (may be null) makes any step throw Interrupted soon after it is set.
  ZeroEngine(const Config& config, const ModelSpec& model, Communicator& communicator,
             at::Device device, const std::atomic<bool>* stop = nullptr,
             InitialValues initial = InitialValues::kOfSeed);

  // Forward, backward, clipping and update of one global batch. Throws Failure (a non-finite
  // gradient is one: nothing is updated then), Interrupted. Blocks. With the update in forward
  // order (config.update_order) it returns while the update goes on in the background, and an error
  // of the update is thrown by the next call that needs it.
  StepReport step(const LossFunction& loss);
  // Waits until the last step's update is in its tiers, and tells what of it no step has told yet:
  // seconds, waits and bytes. To be called at the end of training: what happens to an update that
  // is still under way when the engine goes is not told to anyone. Throws as step.
  StepReport finish_update();

  // The states as the last step left them, to be saved or replaced before the next call of anything
  // here: waits for the update as finish_update, tells nothing, and nobody holds or reads weights.
  ModelStates& quiet_states();
  // Calls `use` with these states, once, at the next moment at which waiting for them costs least:
  // between forward and backward of the next step, where its update is over and no other has begun,
  // or before an inference pass or quiet_states(). It may read them and seal them, not change them;
  // what it throws is thrown by the call it was made in. `waited_seconds`: training waited for what
  // moved to end. REQUIRES: no other is waiting.
  using UseStates = std::function<void(ModelStates& states, double waited_seconds)>;
  void when_quiet(UseStates use);
  // The next step is number `steps_done` + 1: the states are those of a checkpoint.
  void resume_after(std::uint64_t steps_done) noexcept { step_ = steps_done; }

  // A pass without gradients and dropout, for evaluation and generation. Never disturbs training.
  zero::Pass inference_pass();
  // Sum over ranks, for losses computed with inference_pass.
  double sum_over_ranks(double value) { return states_.communicator().all_reduce_sum(value); }

  // Records the steps from here on. Its observer goes into config.aio before the engine is made.
  void set_trace(Trace* trace);

  const ModelStates& states() const noexcept { return states_; }
  const GradientStore& gradients() const noexcept { return gradients_; }
  const ActivationStore& activations() const noexcept { return activations_; }
  const WeightFetcher& fetcher() const noexcept { return fetcher_; }
  std::uint64_t steps_done() const noexcept { return step_; }

 private:
  zero::Pass make_pass(bool training);
  void run_passes(const LossFunction& loss_of, StepReport* report);
  void run_backward(const at::Tensor& loss, StepReport* report);
  void end_update();
  void use_quiet_states();
  void count_update(const swapper::StreamStats& update);
  void count_bytes();
  void report_counts(StepReport* report);

  ModelStates states_;
  GradientStore gradients_;
  ActivationStore activations_{states_};
  OptimizerStep optimizer_;
  WeightFetcher fetcher_;
  const std::atomic<bool>* stop_;
  bool in_background_ = false;
  bool ahead_ = false;    // of the norm, when it is worth trying
  bool clipped_ = false;  // in the last step: then this one will be too, most likely
  std::uint64_t step_ = 0;
  bool inferring_ = false;  // what moves now is no step's
  UseStates when_quiet_;
  // Since the last report.
  double compute_seconds_ = 0;
  double update_seconds_ = 0;
  std::chrono::steady_clock::time_point backward_end_;
  double barrier_seconds_ = 0;
  double drive_busy_seconds_ = 0;
  double drive_idle_seconds_ = 0;
  double activations_wait_reported_ = 0;
  swapper::TierStats moved_;
  swapper::TierStats seen_;  // the tiers' counts when moved_ was brought up to date
};

}  // namespace spillway::trainer
