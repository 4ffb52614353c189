#include <spillway/aio/check.h>
#include <spillway/aio/stopwatch.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/zero_engine.h>

#include <chrono>
#include <cmath>

namespace spillway::trainer {
ZeroEngine::ZeroEngine(const Config& config, const ModelSpec& model, Communicator& communicator,
                       at::Device device, const std::atomic<bool>* stop, InitialValues initial)
    : states_(config, model, communicator, device, stop, initial),
      gradients_(states_),
      optimizer_(states_, gradients_),
      fetcher_(states_, optimizer_.background()),
      stop_(stop) {
  // The optimizer's states in device memory are updated there, by the stream that computes.
  in_background_ = resolved_update_order(config) != UpdateOrder::kAfterBackward &&
                   states_.tiers().device_optimizer() == nullptr;
  if (resolved_update_order(config) == UpdateOrder::kBackward) {
    ahead_ = in_background_ && optimizer_.can_start_ahead();
  }
  if (config.update_order == UpdateOrder::kBackward && !ahead_) {
    states_.tiers().add_note(
        "update_order backward: needs optimizer states on NVMe, and gradients that are not; it is "
        "forward here");
  }
  gradients_.close();
  inferring_ = true;  // making the model was no step
  count_bytes();
  inferring_ = false;
}

void ZeroEngine::set_trace(Trace* trace) {
  states_.set_trace(trace);
  if (trace == nullptr) return;
  std::vector<std::string> names;
  for (const auto& unit : states_.units()) names.push_back(unit.partition.name());
  trace->name_units(std::move(names));
}

zero::Pass ZeroEngine::make_pass(bool training) {
  SPILLWAY_CHECK(states_.has_values(), "values that are to come are set before they are used");
  const Config& config = states_.config();
  zero::Pass pass;
  pass.states = &states_;
  pass.fetcher = &fetcher_;
  pass.gradients = training ? &gradients_ : nullptr;
  pass.activations = training ? &activations_ : nullptr;
  pass.chunk_samples = static_cast<std::int64_t>(config.micro_batch_size);
  pass.training = training;
  pass.seed = config.seed;
  pass.step = step_;
  pass.first_sample =
      states_.communicator().rank() * config.micro_batch_size * config.gradient_accumulation_steps;
  pass.stop = stop_;
  pass.compute_seconds = &compute_seconds_;
  fetcher_.begin_sweep(training ? Sweep::kTraining : Sweep::kInference);
  return pass;
}

zero::Pass ZeroEngine::inference_pass() {
  end_update();
  use_quiet_states();
  count_bytes();
  inferring_ = true;
  return make_pass(/*training=*/false);
}

ModelStates& ZeroEngine::quiet_states() {
  end_update();
  use_quiet_states();
  fetcher_.invalidate();
  count_bytes();
  inferring_ = true;  // what moves now is no step's
  return states_;
}

void ZeroEngine::when_quiet(UseStates use) {
  SPILLWAY_CHECK(!when_quiet_, "one at a time waits for quiet states");
  when_quiet_ = std::move(use);
}

void ZeroEngine::use_quiet_states() {
  if (!when_quiet_) return;
  const TraceSpan span(states_.trace(), Lane::kWait, "use of quiet states");
  const auto start = std::chrono::steady_clock::now();
  end_update();
  fetcher_.settle();
  count_bytes();
  const bool inferring = std::exchange(inferring_, true);  // what moves now is no step's
  std::exchange(when_quiet_, {})(states_, seconds_since(start));
  count_bytes();
  inferring_ = inferring;
}

// What was moved since the last call belongs to training, unless it was inference's.
void ZeroEngine::count_bytes() {
  const swapper::TierStats now{states_.tiers().nvme_read_bytes(),
                               states_.tiers().nvme_written_bytes()};
  if (!inferring_) {
    moved_.read_bytes += now.read_bytes - seen_.read_bytes;
    moved_.written_bytes += now.written_bytes - seen_.written_bytes;
  }
  seen_ = now;
}

void ZeroEngine::end_update() {
  optimizer_.require_intact();
  const auto start = std::chrono::steady_clock::now();
  const TraceSpan span(states_.trace(), Lane::kWait, "wait for the last writes");
  count_update(optimizer_.background().finish());
  barrier_seconds_ += seconds_since(start);
}

void ZeroEngine::count_update(const swapper::StreamStats& update) {
  update_seconds_ += update.compute_seconds;
  if (update.drive_idle_seconds == 0) return;  // nothing was moved
  drive_busy_seconds_ += update.seconds - update.drive_idle_seconds;
  drive_idle_seconds_ += update.drive_idle_seconds;
}

void ZeroEngine::report_counts(StepReport* report) {
  count_bytes();
  const swapper::TierStats moved = std::exchange(moved_, {});
  report->nvme_read_bytes = moved.read_bytes;
  report->nvme_written_bytes = moved.written_bytes;
  report->update_wait_seconds =
      fetcher_.take_update_wait_seconds() + std::exchange(barrier_seconds_, 0);
  const double activations_waited = activations_.wait_seconds();
  report->io_wait_seconds = fetcher_.take_read_wait_seconds() + report->update_wait_seconds +
                            activations_waited - activations_wait_reported_;
  activations_wait_reported_ = activations_waited;
  report->compute_seconds = std::exchange(compute_seconds_, 0);
  report->update_seconds = std::exchange(update_seconds_, 0);
  report->update_drive_busy_seconds = std::exchange(drive_busy_seconds_, 0);
  report->update_drive_idle_seconds = std::exchange(drive_idle_seconds_, 0);
}

StepReport ZeroEngine::finish_update() {
  const auto start = std::chrono::steady_clock::now();
  end_update();
  StepReport report;
  report.step = step_;
  report_counts(&report);
  report.seconds = seconds_since(start);
  return report;
}

StepReport ZeroEngine::step(const LossFunction& loss_of) {
  optimizer_.require_intact();
  const auto start = std::chrono::steady_clock::now();
  count_bytes();
  inferring_ = false;
  StepReport report;
  report.step = ++step_;
  report.learning_rate = learning_rate_at(states_.config(), step_);
  Trace* const trace = states_.trace();
  if (trace != nullptr) trace->begin_step(step_);
  run_passes(loss_of, &report);
  const float factor =
      OptimizerStep::clip_factor(report.grad_norm, states_.config().gradient_clipping);
  clipped_ = factor != 1.0f;
  if (in_background_) {
    report.ahead = optimizer_.start(step_, report.learning_rate, factor, fetcher_.forward_order());
    count_update(optimizer_.background().take_stats());
  } else {
    const swapper::StreamStats update = optimizer_.update(step_, report.learning_rate, factor);
    count_update(update);
    compute_seconds_ += update.compute_seconds;
    barrier_seconds_ += update.read_wait_seconds + update.write_wait_seconds;
  }
  if (states_.tiers().under_pressure()) {
    end_update();  // nothing moves now
    states_.tiers().relieve_pressure();
  }
  if (in_background_) fetcher_.begin_sweep(Sweep::kTraining);
  if (trace != nullptr) trace->end_step();
  report_counts(&report);
  report.optimizer_seconds = seconds_since(backward_end_) + gradients_.take_norm_seconds();
  report.seconds = seconds_since(start);
  return report;
}

// Forward and backward: fills in the loss and the norm, and leaves the gradients.
void ZeroEngine::run_passes(const LossFunction& loss_of, StepReport* report) {
  zero::Pass pass = make_pass(/*training=*/true);
  const at::Tensor loss = loss_of(pass);
  const auto start = std::chrono::steady_clock::now();
  {
    const TraceSpan span(states_.trace(), Lane::kWait, "wait for the update");
    optimizer_.background().wait_until_computed();  // the gradients of the step before are used up
  }
  barrier_seconds_ += seconds_since(start);
  use_quiet_states();
  gradients_.clear();
  try {
    run_backward(loss, report);
  } catch (...) {
    gradients_.close();
    gradients_.when_final({});
    optimizer_.background().take_back();
    throw;
  }
  gradients_.close();
  gradients_.when_final({});
}

void ZeroEngine::run_backward(const at::Tensor& loss, StepReport* report) {
  if (ahead_ && !clipped_ && !gradients_.final_order().empty()) {
    optimizer_.start_ahead(step_, report->learning_rate, gradients_.final_order());
    gradients_.when_final([this](UnitId unit) {
      fetcher_.forget(unit);
      optimizer_.background().unit_final(unit);
    });
  }
  loss.backward();
  backward_end_ = std::chrono::steady_clock::now();
  fetcher_.invalidate();

  report->loss = sum_over_ranks(loss.item<double>());
  const TraceSpan span(states_.trace(), Lane::kCompute, "gradient norm");
  report->grad_norm = std::sqrt(gradients_.squared_norm());
  if (!std::isfinite(report->grad_norm) || !std::isfinite(report->loss)) {
    throw Failure(make_error(ErrorKind::kInvalid, "train step " + std::to_string(step_), "",
                             "loss or gradient norm is not finite: lower the learning rate")
                      .value());
  }
}

}  // namespace spillway::trainer
