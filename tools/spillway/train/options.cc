#include "tools/spillway/train/options.h"

#include <spillway/trainer/communicator.h>
#include <spillway/trainer/device.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/model.h>

#include <charconv>
#include <utility>

#include "tools/spillway/train/signals.h"

namespace spillway::tools {
namespace {

using trainer::Failure;
using trainer::value_or_throw;

[[noreturn]] void refuse(const std::string& what, const std::string& why) {
  throw Failure(make_error(ErrorKind::kInvalid, what, "", why).value());
}

trainer::TokenFormat format_of(const std::string& name) {
  if (name == "text") return trainer::TokenFormat::kText;
  if (name == "llmc") return trainer::TokenFormat::kLlmc;
  if (name == "nanogpt") return trainer::TokenFormat::kNanoGpt;
  return trainer::TokenFormat::kAuto;
}

trainer::TokenFile open_tokens(const std::string& path, const std::string& format,
                               std::uint32_t context) {
  auto file = value_or_throw(trainer::TokenFile::open(path, format_of(format)));
  value_or_throw(trainer::BatchSampler::create(file, context, 0));  // long enough?
  return file;
}

// Of --init-from; --model, when it is given too, may differ in what is no weights' business.
trainer::ModelConfigPtr model_of(const TrainOptions& options) {
  if (options.init_from.empty()) return value_or_throw(trainer::load_model_config(options.model));
  auto there = value_or_throw(trainer::load_hugging_face_config(options.init_from));
  if (!options.model_given) return there;
  auto here = value_or_throw(trainer::load_model_config(options.model));
  const std::string differences = there->differences(*here);
  if (differences.empty()) return here;
  refuse("use --init-from " + options.init_from + " with --model " + options.model, differences);
}

// "3-5" or "3". Throws trainer::Failure.
trainer::TraceOptions traced_steps(const std::string& text) {
  trainer::TraceOptions options;
  if (text.empty()) return options;
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, options.first_step);
  auto last = first;
  options.last_step = options.first_step;
  if (first.ec == std::errc() && first.ptr != end && *first.ptr == '-') {
    last = std::from_chars(first.ptr + 1, end, options.last_step);
  }
  if (first.ec == std::errc() && last.ec == std::errc() && last.ptr == end &&
      options.first_step > 0 && options.first_step <= options.last_step) {
    return options;
  }
  throw trainer::Failure(make_error(ErrorKind::kInvalid, "use --trace-steps " + text, "",
                                    "it must be a step or a range of steps from 1: 3-5")
                             .value());
}

trainer::CheckpointOptions checkpoint_options(const TrainOptions& options) {
  trainer::CheckpointOptions wanted{.directory = options.checkpoint_dir,
                                    .every = options.checkpoint_every,
                                    .keep = {.newest = options.keep, .every = options.keep_every}};
  if (options.resume == "auto" || options.resume == "no") {
    wanted.resume = options.resume == "auto";
  } else {
    wanted.resume_from = options.resume;
  }
  return wanted;
}

}  // namespace

const std::string& model_label(const TrainOptions& options) {
  return options.init_from.empty() || options.model_given ? options.model : options.init_from;
}

TrainInputs check_inputs(const TrainOptions& options, std::uint32_t world_size) {
  trainer::ConfigInput input;
  input.file = options.config;
  input.overrides = options.set;
  input.world_size = world_size;
  input.total_steps = options.steps;
  const trainer::ModelConfigPtr model = model_of(options);
  const trainer::ModelShape shape = model->shape();
  input.hidden_size = shape.width;
  trainer::ConfigResult config = value_or_throw(trainer::load_config(input));
  if (options.seed) config.config.seed = *options.seed;

  const std::uint32_t context = options.context == 0 ? shape.context : options.context;
  if (context > shape.context) {
    refuse("use --context " + std::to_string(context),
           "the model has " + std::to_string(shape.context) + " positions (n_positions)");
  }
  const at::Device device =
      value_or_throw(trainer::open_device(options.device, trainer::Communicator::local_rank()));
  trainer::RunInput run{.model = model,
                        .config = config.config,
                        .data = open_tokens(options.data, options.data_format, context),
                        .context = context,
                        .device = device,
                        .steps = options.steps,
                        .eval_every = options.eval_every,
                        .eval_samples = options.eval_samples,
                        .init_from = options.init_from,
                        .checkpoints = checkpoint_options(options),
                        .metrics = options.metrics,
                        .stop = {.now = &stop_now(), .after_step = &stop_after_step()},
                        .names = {.directory = "--checkpoint-dir",
                                  .keep = "--keep",
                                  .resume = "--resume auto",
                                  .no_resume = "--resume no",
                                  .resume_from = "--resume",
                                  .init_from = "--init-from"}};
  if (!options.eval_data.empty()) {
    run.eval_data = open_tokens(options.eval_data, options.data_format, context);
  }
  run.trace = {.path = options.trace,
               .trace = traced_steps(options.trace_steps),
               .process = "spillway train, " + options.model};
  return {std::move(run), std::move(config.keys)};
}

}  // namespace spillway::tools
