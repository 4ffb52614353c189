#include <spillway/trainer/failure.h>
#include <spillway/trainer/zero_engine.h>

#include <chrono>
#include <cmath>

namespace spillway::trainer {

ZeroEngine::ZeroEngine(const Config& config, const ModelSpec& model, Communicator& communicator,
                       at::Device device, const std::atomic<bool>* stop)
    : states_(config, model, communicator, device, stop),
      fetcher_(states_),
      gradients_(states_),
      optimizer_(states_),
      stop_(stop) {}

void ZeroEngine::set_trace(Trace* trace) {
  states_.set_trace(trace);
  if (trace == nullptr) return;
  std::vector<std::string> names;
  for (const auto& unit : states_.units()) names.push_back(unit.partition.name());
  trace->name_units(std::move(names));
}

zero::Pass ZeroEngine::make_pass(bool training) {
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
  fetcher_.begin_sweep();
  return pass;
}

zero::Pass ZeroEngine::inference_pass() { return make_pass(/*training=*/false); }

StepReport ZeroEngine::step(const LossFunction& loss_of) {
  const auto start = std::chrono::steady_clock::now();
  const StateTiers& tiers = states_.tiers();
  StepReport report;
  report.step = ++step_;
  report.learning_rate = learning_rate_at(states_.config(), step_);
  report.nvme_read_bytes = tiers.nvme_read_bytes();
  report.nvme_written_bytes = tiers.nvme_written_bytes();
  Trace* const trace = states_.trace();
  if (trace != nullptr) trace->begin_step(step_);
  const double wait_before = fetcher_.wait_seconds() + activations_.wait_seconds();
  compute_seconds_ = 0;

  gradients_.clear();
  zero::Pass pass = make_pass(/*training=*/true);
  const at::Tensor loss = loss_of(pass);
  loss.backward();
  fetcher_.invalidate();

  report.loss = sum_over_ranks(loss.item<double>());
  report.grad_norm = std::sqrt(gradients_.squared_norm());
  if (!std::isfinite(report.grad_norm) || !std::isfinite(report.loss)) {
    throw Failure(make_error(ErrorKind::kInvalid, "train step " + std::to_string(step_), "",
                             "loss or gradient norm is not finite: lower the learning rate")
                      .value());
  }
  const float factor =
      OptimizerStep::clip_factor(report.grad_norm, states_.config().gradient_clipping);
  const swapper::StreamStats update =
      optimizer_.update(gradients_, step_, report.learning_rate, factor);

  if (trace != nullptr) trace->end_step();
  report.nvme_read_bytes = tiers.nvme_read_bytes() - report.nvme_read_bytes;
  report.nvme_written_bytes = tiers.nvme_written_bytes() - report.nvme_written_bytes;
  report.io_wait_seconds = fetcher_.wait_seconds() + activations_.wait_seconds() - wait_before +
                           update.read_wait_seconds + update.write_wait_seconds;
  report.compute_seconds = compute_seconds_ + update.compute_seconds;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace spillway::trainer
