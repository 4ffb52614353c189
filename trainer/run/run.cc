#include <spillway/trainer/run.h>

#include <ATen/Functions.h>
#include <spillway/aio/check.h>
#include <spillway/trainer/failure.h>

#include <utility>

#include "trainer/run/batches.h"
#include "trainer/run/checkpoints.h"
#include "trainer/run/evaluate.h"
#include "trainer/run/initial_weights.h"
#include "trainer/run/metrics_file.h"
#include "trainer/run/model_in_use.h"
#include "trainer/run/trace_file.h"

namespace spillway::trainer {
namespace {

[[noreturn]] void refuse(const std::string& what, const std::string& why) {
  throw Failure(make_error(ErrorKind::kInvalid, what, "", why).value());
}

RunInput checked(RunInput input) {
  const std::uint32_t positions = input.model->shape().context;
  if (input.context == 0) input.context = positions;
  if (input.context > positions) {
    refuse("use a context of " + std::to_string(input.context),
           "the model has " + std::to_string(positions) + " positions (n_positions)");
  }
  if (input.eval_samples == 0) refuse("evaluate", "it takes at least one sample");
  return input;
}

}  // namespace

Run::Run(RunInput input, Communicator& ranks, RunObserver* observer)
    : input_(checked(std::move(input))),
      ranks_(ranks),
      observer_(observer != nullptr && ranks.rank() == 0 ? *observer : silent_) {
  if (!input_.trace.path.empty() && ranks_.rank() == 0) {
    trace_ = std::make_unique<TraceFile>(input_.trace, observer_);
  }
  model_ = std::make_unique<ModelInUse>(*input_.model);
  checkpoints_ = std::make_unique<RunCheckpoints>(input_, ranks_, observer_);
  if (!input_.init_from.empty()) {
    if (checkpoints_->will_resume()) {
      observer_.progress(input_.names.init_from + " " + input_.init_from.string() +
                         " is not used: the checkpoint has the weights");
    } else {
      initial_ = std::make_unique<InitialWeights>(input_.init_from, *input_.model);
    }
  }
  Config config = input_.config;
  if (trace_) config.aio.observer = trace_->trace().io_observer();
  const bool loads = initial_ || checkpoints_->will_resume();
  engine_ =
      std::make_unique<ZeroEngine>(config, model_->spec(), ranks_, input_.device, input_.stop.now,
                                   loads ? InitialValues::kLoadedLater : InitialValues::kOfSeed);
  engine_->set_trace(trace_ ? &trace_->trace() : nullptr);
}

Run::~Run() = default;

std::uint64_t Run::load() {
  if (done_) return *done_;
  const std::uint64_t done = checkpoints_->resume(*engine_);
  if (initial_) {
    observer_.weights_loaded(initial_->load(*engine_));
    initial_.reset();
  }
  done_ = done;
  return done;
}

RunEnd Run::train() {
  const std::uint64_t done = load();
  if (done >= input_.steps && done > 0) return RunEnd::kNothingToDo;
  if (!input_.metrics.empty() && ranks_.rank() == 0) {
    metrics_ = std::make_unique<MetricsFile>(input_.metrics, done);
  }
  const bool finished = train_steps();
  totals_.add_rest(engine_->finish_update());
  return finished ? RunEnd::kFinished : RunEnd::kStopped;
}

// The steps after those that are done. False: it was asked to stop before the last one.
bool Run::train_steps() {
  const Config& config = input_.config;
  const auto sampler =
      value_or_throw(BatchSampler::create(input_.data, input_.context, config.seed));
  const std::uint64_t local = config.train_batch_size / ranks_.world_size();
  const std::uint64_t first = ranks_.rank() * local;
  const BatchShape shape{
      .samples = local, .context = input_.context, .vocab_size = model_->vocab_size()};
  const double tokens = static_cast<double>(config.train_batch_size) * input_.context;
  for (std::uint64_t step = *done_ + 1; step <= input_.steps; ++step) {
    const TokenBatch batch = make_batch(input_.data, shape, input_.device,
                                        [&](std::uint64_t i, auto inputs, auto targets) {
                                          sampler.training_sample(step, first + i, inputs, targets);
                                        });
    StepFigures figures;
    figures.report = engine_->step(
        [&](zero::Pass& pass) { return model_->token_losses(pass, batch).sum() / tokens; });
    done_ = step;
    figures.tokens = static_cast<std::uint64_t>(tokens);
    if (evaluates(step)) figures.eval_loss = evaluate();
    totals_.add(figures.report);
    if (metrics_) metrics_->write(figures);
    observer_.step(figures);
    if (checkpoints_->after_step(*engine_)) return false;
  }
  return true;
}

bool Run::evaluates(std::uint64_t step) const {
  if (!input_.eval_data) return false;
  return step == input_.steps || (input_.eval_every > 0 && step % input_.eval_every == 0);
}

double Run::evaluate() {
  SPILLWAY_CHECK(input_.eval_data.has_value(), "evaluate() needs held-out data");
  load();
  return trainer::evaluate(*engine_, *model_, ranks_, *input_.eval_data,
                           {.samples = input_.eval_samples,
                            .context = input_.context,
                            .seed = input_.config.seed,
                            .device = input_.device});
}

std::vector<std::int64_t> Run::generate(std::vector<std::int64_t> prompt,
                                        const GenerateOptions& options) {
  load();
  zero::Pass pass = engine_->inference_pass();
  return model_->generate(pass, std::move(prompt), options);
}

std::optional<TraceWritten> Run::write_trace() {
  if (!trace_) return std::nullopt;
  return trace_->write();
}

}  // namespace spillway::trainer
