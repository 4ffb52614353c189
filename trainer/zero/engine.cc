#include <spillway/aio/check.h>
#include <spillway/aio/stopwatch.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/trace.h>
#include <spillway/trainer/zero_engine.h>

#include <chrono>
#include <cmath>
#include <utility>

#include "trainer/states/model_states.h"
#include "trainer/stream/activation_store.h"
#include "trainer/stream/gradient_store.h"
#include "trainer/stream/optimizer_step.h"
#include "trainer/stream/weight_fetcher.h"
#include "trainer/zero/pass.h"

namespace spillway::trainer {
namespace {

// Who the bytes that move are charged to: the steps of training, or anything else (making the
// model, inference, saving).
enum class Account { kTraining, kOther };

// Bytes that moved to and from NVMe, by account.
class TrafficMeter {
 public:
  explicit TrafficMeter(const StateTiers& tiers) : tiers_(tiers) {}

  // Charges what moves from here on to `account`. Returns the account before.
  Account charge(Account account) {
    count();
    return std::exchange(account_, account);
  }
  // What training moved since the last call.
  swapper::TierStats take() {
    count();
    return std::exchange(training_, {});
  }

 private:
  void count() {
    const swapper::TierStats now{tiers_.nvme_read_bytes(), tiers_.nvme_written_bytes()};
    if (account_ == Account::kTraining) {
      training_.read_bytes += now.read_bytes - seen_.read_bytes;
      training_.written_bytes += now.written_bytes - seen_.written_bytes;
    }
    seen_ = now;
  }

  const StateTiers& tiers_;
  Account account_ = Account::kOther;
  swapper::TierStats training_;
  swapper::TierStats seen_;  // the tiers' counts at the last count()
};

// Lets the gradients of one step take contributions while it lives, and ends GradientStore's
// when_final with them.
class OpenGradients {
 public:
  explicit OpenGradients(GradientStore& gradients) : gradients_(gradients) { gradients_.clear(); }
  ~OpenGradients() {
    gradients_.close();
    gradients_.when_final({});
  }
  OpenGradients(const OpenGradients&) = delete;
  OpenGradients& operator=(const OpenGradients&) = delete;

 private:
  GradientStore& gradients_;
};

}  // namespace

class ZeroEngine::Impl {
 public:
  Impl(const Config& config, const ModelSpec& model, Communicator& communicator, at::Device device,
       const std::atomic<bool>* stop, InitialValues initial);

  StepReport step(const LossFunction& loss);
  StepReport finish_update();
  ModelStates& quiet_states();
  void when_quiet(UseStates use);
  zero::Pass inference_pass();
  double sum_over_ranks(double value) { return states_.communicator().all_reduce_sum(value); }
  void set_trace(Trace* trace);

 private:
  friend class ZeroEngine;  // its accessors

  zero::Pass make_pass(bool training);
  void run_passes(const LossFunction& loss_of, StepReport* report);
  void run_backward(const at::Tensor& loss, StepReport* report);
  void check_finite(const StepReport& report) const;
  void end_update();
  void use_quiet_states();
  void count_update(const swapper::StreamStats& update);
  void report_counts(StepReport* report);

  ModelStates states_;
  GradientStore gradients_;
  ActivationStore activations_{states_};
  OptimizerStep optimizer_;
  WeightFetcher fetcher_;
  const std::atomic<bool>* stop_;
  bool in_background_ = false;
  bool speculates_ = false;  // updates during backward, where that is worth trying
  bool clipped_ = false;     // in the last step: then this one will be too, most likely
  std::uint64_t step_ = 0;
  UseStates when_quiet_;
  TrafficMeter traffic_{states_.tiers()};
  // Since the last report.
  double compute_seconds_ = 0;
  double update_seconds_ = 0;
  std::chrono::steady_clock::time_point backward_end_;
  double barrier_seconds_ = 0;
  double drive_busy_seconds_ = 0;
  double drive_idle_seconds_ = 0;
  double activations_wait_reported_ = 0;
};

ZeroEngine::Impl::Impl(const Config& config, const ModelSpec& model, Communicator& communicator,
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
    speculates_ = in_background_ && optimizer_.can_speculate();
  }
  if (config.update_order == UpdateOrder::kBackward && !speculates_) {
    states_.tiers().add_note(
        "update_order backward: needs optimizer states on NVMe, and gradients that are not; it is "
        "forward here");
  }
  gradients_.close();
  traffic_.charge(Account::kTraining);  // making the model was no step
}

void ZeroEngine::Impl::set_trace(Trace* trace) {
  states_.set_trace(trace);
  if (trace == nullptr) return;
  std::vector<std::string> names;
  for (const auto& unit : states_.units()) names.push_back(unit.partition.name());
  trace->name_units(std::move(names));
}

zero::Pass ZeroEngine::Impl::make_pass(bool training) {
  SPILLWAY_CHECK(states_.has_values(), "values that are loaded later are set before they are used");
  const Config& config = states_.config();
  const std::uint64_t samples = config.micro_batch_size * config.gradient_accumulation_steps;
  auto pass = std::make_shared<zero::PassState>(zero::PassState{
      .states = &states_,
      .fetcher = &fetcher_,
      .gradients = training ? &gradients_ : nullptr,
      .activations = training ? &activations_ : nullptr,
      .chunk_samples = static_cast<std::int64_t>(config.micro_batch_size),
      .training = training,
      .seed = config.seed,
      .step = step_,
      .first_sample = states_.communicator().rank() * samples,
      .stop = stop_,
      .compute_seconds = &compute_seconds_,
  });
  fetcher_.begin_sweep(training ? Sweep::kTraining : Sweep::kInference);
  return zero::Pass(std::move(pass));
}

zero::Pass ZeroEngine::Impl::inference_pass() {
  end_update();
  use_quiet_states();
  traffic_.charge(Account::kOther);
  return make_pass(/*training=*/false);
}

ModelStates& ZeroEngine::Impl::quiet_states() {
  end_update();
  use_quiet_states();
  fetcher_.invalidate();
  traffic_.charge(Account::kOther);
  return states_;
}

void ZeroEngine::Impl::when_quiet(UseStates use) {
  SPILLWAY_CHECK(!when_quiet_, "one at a time waits for quiet states");
  when_quiet_ = std::move(use);
}

void ZeroEngine::Impl::use_quiet_states() {
  if (!when_quiet_) return;
  const TraceSpan span(states_.trace(), Lane::kWait, "use of quiet states");
  const auto start = std::chrono::steady_clock::now();
  end_update();
  fetcher_.settle();
  const Account before = traffic_.charge(Account::kOther);
  std::exchange(when_quiet_, {})(states_, seconds_since(start));
  traffic_.charge(before);
}

void ZeroEngine::Impl::end_update() {
  optimizer_.require_intact();
  const auto start = std::chrono::steady_clock::now();
  const TraceSpan span(states_.trace(), Lane::kWait, "wait for the last writes");
  count_update(optimizer_.background().finish());
  barrier_seconds_ += seconds_since(start);
}

void ZeroEngine::Impl::count_update(const swapper::StreamStats& update) {
  update_seconds_ += update.compute_seconds;
  if (update.drive_idle_seconds == 0) return;  // nothing was moved
  drive_busy_seconds_ += update.seconds - update.drive_idle_seconds;
  drive_idle_seconds_ += update.drive_idle_seconds;
}

void ZeroEngine::Impl::report_counts(StepReport* report) {
  const swapper::TierStats moved = traffic_.take();
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

StepReport ZeroEngine::Impl::finish_update() {
  const auto start = std::chrono::steady_clock::now();
  end_update();
  fetcher_.settle();  // what is read ahead for the next step is counted, too
  StepReport report;
  report.step = step_;
  report_counts(&report);
  report.seconds = seconds_since(start);
  return report;
}

StepReport ZeroEngine::Impl::step(const LossFunction& loss_of) {
  optimizer_.require_intact();
  const auto start = std::chrono::steady_clock::now();
  traffic_.charge(Account::kTraining);
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
    const BackgroundUpdate::SpeculativeTiles tiles =
        optimizer_.start(step_, report.learning_rate, factor, fetcher_.forward_order());
    report.speculative_tiles = {.kept = tiles.kept, .rolled_back = tiles.rolled_back};
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
void ZeroEngine::Impl::run_passes(const LossFunction& loss_of, StepReport* report) {
  zero::Pass pass = make_pass(/*training=*/true);
  const at::Tensor loss = loss_of(pass);
  const auto start = std::chrono::steady_clock::now();
  {
    const TraceSpan span(states_.trace(), Lane::kWait, "wait for the update");
    optimizer_.background().wait_until_computed();  // the gradients of the step before are used up
  }
  barrier_seconds_ += seconds_since(start);
  use_quiet_states();
  try {
    const OpenGradients open(gradients_);
    run_backward(loss, report);
  } catch (...) {
    optimizer_.background().roll_back();
    throw;
  }
}

void ZeroEngine::Impl::run_backward(const at::Tensor& loss, StepReport* report) {
  if (speculates_ && !clipped_ && !gradients_.final_order().empty()) {
    optimizer_.start_speculative(step_, report->learning_rate, gradients_.final_order());
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
  check_finite(*report);
}

void ZeroEngine::Impl::check_finite(const StepReport& report) const {
  if (std::isfinite(report.grad_norm) && std::isfinite(report.loss)) return;
  // Nothing was updated before the first step.
  const char* const advice =
      step_ == 1 ? "look at the model, its weights and the data" : "lower the learning rate";
  throw Failure(make_error(ErrorKind::kInvalid, "train step " + std::to_string(step_), "",
                           std::string("loss or gradient norm is not finite: ") + advice)
                    .value());
}

ZeroEngine::ZeroEngine(const Config& config, const ModelSpec& model, Communicator& communicator,
                       at::Device device, const std::atomic<bool>* stop, InitialValues initial)
    : impl_(std::make_unique<Impl>(config, model, communicator, device, stop, initial)) {}
ZeroEngine::~ZeroEngine() = default;

StepReport ZeroEngine::step(const LossFunction& loss) { return impl_->step(loss); }
StepReport ZeroEngine::finish_update() { return impl_->finish_update(); }
ModelStates& ZeroEngine::quiet_states() { return impl_->quiet_states(); }
void ZeroEngine::when_quiet(UseStates use) { impl_->when_quiet(std::move(use)); }
void ZeroEngine::resume_after(std::uint64_t steps_done) noexcept { impl_->step_ = steps_done; }
zero::Pass ZeroEngine::inference_pass() { return impl_->inference_pass(); }
double ZeroEngine::sum_over_ranks(double value) { return impl_->sum_over_ranks(value); }
void ZeroEngine::set_trace(Trace* trace) { impl_->set_trace(trace); }
std::uint64_t ZeroEngine::steps_done() const noexcept { return impl_->step_; }
std::uint64_t ZeroEngine::parameter_count() const { return impl_->states_.parameter_count(); }
std::uint64_t ZeroEngine::trainable_parameter_count() const {
  return impl_->states_.trainable_parameter_count();
}
const ModelStates& ZeroEngine::states() const noexcept { return impl_->states_; }
const GradientStore& ZeroEngine::gradients() const noexcept { return impl_->gradients_; }
const ActivationStore& ZeroEngine::activations() const noexcept { return impl_->activations_; }
const WeightFetcher& ZeroEngine::fetcher() const noexcept { return impl_->fetcher_; }

}  // namespace spillway::trainer
