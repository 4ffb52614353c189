// ZeroEngine: a model whose states live where the configuration says, and the steps that train it.
//
// This is all a program needs to train a model of its own: describe the units (ModelSpec), make
// the engine, and call `step` with a function that computes the loss by zero::run. One thread.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/trainer/activation_store.h>
#include <spillway/trainer/gradient_store.h>
#include <spillway/trainer/model_states.h>
#include <spillway/trainer/optimizer_step.h>
#include <spillway/trainer/weight_fetcher.h>
#include <spillway/trainer/zero.h>

#include <atomic>
#include <cstdint>
#include <functional>

namespace spillway::trainer {

struct StepReport {
  std::uint64_t step = 0;  // from 1
  double loss = 0;         // of the global batch, before the update
  double grad_norm = 0;    // before clipping, all ranks
  double learning_rate = 0;
  double seconds = 0;
  double io_wait_seconds = 0;         // computing stood still for storage
  double compute_seconds = 0;         // forward, backward and the update's kernel
  std::uint64_t nvme_read_bytes = 0;  // of this step, this rank
  std::uint64_t nvme_written_bytes = 0;
};

class ZeroEngine {
 public:
  // This rank's share of the global batch's loss: summed over ranks it is the loss. It has a graph
  // made by zero::run with the given pass.
  using LossFunction = std::function<at::Tensor(zero::Pass&)>;

  // Initialises the model from config.seed and writes its states to their tiers. Blocks; throws
  // Failure. `stop` (may be null) makes any step throw Interrupted soon after it is set.
  ZeroEngine(const Config& config, const ModelSpec& model, Communicator& communicator,
             at::Device device, const std::atomic<bool>* stop = nullptr);

  // Forward, backward, clipping and update of one global batch. Throws Failure (a non-finite
  // gradient is one: nothing is updated then), Interrupted. Blocks.
  StepReport step(const LossFunction& loss);

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

  ModelStates states_;
  WeightFetcher fetcher_;
  GradientStore gradients_;
  ActivationStore activations_{states_};
  OptimizerStep optimizer_;
  const std::atomic<bool>* stop_;
  std::uint64_t step_ = 0;
  double compute_seconds_ = 0;
};

}  // namespace spillway::trainer
