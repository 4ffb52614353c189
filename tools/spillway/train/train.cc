#include "tools/spillway/train/train.h"
#include "trainer/states/model_states.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Logging.h>
#include <fmt/format.h>
#include <spillway/trainer/failure.h>
#include "trainer/models/gpt2/model.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <thread>

#include "tools/spillway/common/error_text.h"
#include "tools/spillway/train/checkpoints.h"
#include "tools/spillway/train/initial.h"
#include "tools/spillway/train/metrics.h"
#include "tools/spillway/train/options.h"
#include "tools/spillway/train/report.h"
#include "tools/spillway/train/signals.h"
#include "tools/spillway/train/trace.h"
#include "tools/spillway/train/tuned_drive.h"

namespace spillway::tools {
namespace {

using trainer::Communicator;
using trainer::value_or_throw;
using trainer::ZeroEngine;

// Samples `count` of the global batch, from `first` on: tokens and the tokens after them.
struct Batch {
  at::Tensor tokens;
  at::Tensor targets;
};

template <typename Fill>
Batch make_batch(const TrainInputs& inputs, const trainer::TokenFile& file, std::uint64_t count,
                 const Fill& fill) {
  const std::int64_t context = inputs.context;
  const auto samples = static_cast<std::int64_t>(count);
  Batch batch{at::empty({samples, context}, at::kLong), at::empty({samples, context}, at::kLong)};
  for (std::int64_t i = 0; i < samples; ++i) {
    const auto row = [&](at::Tensor& tensor) {
      return std::span<std::int64_t>(tensor.data_ptr<std::int64_t>() + i * context, context);
    };
    fill(static_cast<std::uint64_t>(i), row(batch.tokens), row(batch.targets));
  }
  const std::int64_t largest =
      std::max(batch.tokens.max().item<std::int64_t>(), batch.targets.max().item<std::int64_t>());
  if (largest >= inputs.model.vocab_size) {
    throw trainer::Failure(
        make_error(ErrorKind::kInvalid, "read tokens", file.path(),
                   fmt::format("token {} is outside the model's vocabulary of {}", largest,
                               inputs.model.vocab_size))
            .value());
  }
  batch.tokens = batch.tokens.to(inputs.device);
  batch.targets = batch.targets.to(inputs.device);
  return batch;
}

// A training run: the engine, its data, and what it tells.
class Training {
 public:
  // `trace` may be null.
  Training(const TrainOptions& options, const TrainInputs& inputs, Communicator& ranks,
           trainer::Trace* trace)
      : options_(options), inputs_(inputs), ranks_(ranks) {
    units_ = add_gpt(model_, inputs.model);
    trainer::Config traced = config();
    if (trace != nullptr) traced.aio.observer = trace->io_observer();
    if (!options.checkpoint_dir.empty() || !options.resume.empty()) {
      checkpoints_.emplace(options, inputs, ranks, [this](const std::string& line) { say(line); });
    }
    open_initial_weights();
    const bool to_come = initial_ || (checkpoints_ && checkpoints_->will_resume());
    engine_.emplace(
        traced, model_, ranks, inputs.device, &stop_now(),
        to_come ? trainer::InitialValues::kLoadedLater : trainer::InitialValues::kOfSeed);
    engine_->set_trace(trace);
  }

  void run() {
    if (leads()) announce();
    const std::uint64_t done = checkpoints_ ? checkpoints_->resume(*engine_) : 0;
    set_initial_weights();
    if (done >= options_.steps && done > 0) {
      if (leads())
        say(fmt::format("{} steps are done, of {}: nothing to train", done, options_.steps));
      return;
    }
    if (leads()) metrics_.emplace(metrics_options(done));
    const bool finished = train(done);
    totals_.add_rest(engine_->finish_update());
    if (metrics_) metrics_->finish();
    if (!finished) return;
    if (options_.sample > 0) show_sample();
    report();
  }

 private:
  const trainer::Config& config() const { return inputs_.config.config; }
  bool leads() const { return ranks_.rank() == 0; }
  // Tokens of a global batch.
  double tokens() const { return static_cast<double>(config().train_batch_size) * inputs_.context; }
  void say(const std::string& line) {
    if (metrics_) return metrics_->say(line);
    fmt::print("{}\n", line);
    std::fflush(stdout);
  }
  void open_initial_weights() {
    if (options_.init_from.empty()) return;
    if (!checkpoints_ || !checkpoints_->will_resume()) {
      initial_.emplace(options_, inputs_);
    } else if (leads()) {
      say("--init-from " + options_.init_from + " is not used: the checkpoint has the weights");
    }
  }
  void set_initial_weights() {
    if (!initial_) return;
    const std::string line = initial_->set(*engine_);
    if (leads()) say(line);
    initial_.reset();
  }
  TrainMetrics::Options metrics_options(std::uint64_t done) const {
    return {.path = options_.metrics,
            .steps = options_.steps,
            .done = done,
            .steps_per_print = config().steps_per_print,
            .tuned = config().tuned,
            .local_ranks = ranks_.local_world_size()};
  }

  // The steps after `done`. False: a signal has asked to stop before the last one.
  bool train(std::uint64_t done) {
    const auto sampler =
        value_or_throw(trainer::BatchSampler::create(inputs_.data, inputs_.context, config().seed));
    for (std::uint64_t step = done + 1; step <= options_.steps; ++step) {
      const Batch batch = training_batch(sampler, step);
      StepFigures figures;
      figures.report = engine_->step([&](trainer::zero::Pass& pass) {
        return gpt_token_losses(pass, units_, batch.tokens, batch.targets).sum() / tokens();
      });
      figures.tokens = static_cast<std::uint64_t>(tokens());
      if (evaluates(step)) figures.eval_loss = evaluate();
      totals_.add(figures.report);
      if (metrics_) metrics_->step(figures);
      if (checkpoints_ && checkpoints_->after_step(*engine_)) return false;
    }
    return true;
  }

  bool evaluates(std::uint64_t step) const {
    if (!inputs_.eval_data) return false;
    return step == options_.steps || (options_.eval_every > 0 && step % options_.eval_every == 0);
  }

  Batch training_batch(const trainer::BatchSampler& sampler, std::uint64_t step) const {
    const std::uint64_t local = config().train_batch_size / ranks_.world_size();
    const std::uint64_t first = ranks_.rank() * local;
    return make_batch(inputs_, inputs_.data, local,
                      [&](std::uint64_t i, auto tokens, auto targets) {
                        sampler.training_sample(step, first + i, tokens, targets);
                      });
  }

  // Mean loss over eval_samples samples of the held-out data, the same ones every time. A rank
  // takes every world_size-th; all run as many passes, so that their collectives match.
  double evaluate() {
    const at::NoGradGuard no_graph;
    const auto sampler = value_or_throw(
        trainer::BatchSampler::create(*inputs_.eval_data, inputs_.context, config().seed));
    const std::uint64_t world = ranks_.world_size();
    const std::uint64_t samples = options_.eval_samples;
    const std::uint64_t local = (samples + world - 1) / world;
    const Batch batch = make_batch(
        inputs_, *inputs_.eval_data, local, [&](std::uint64_t i, auto tokens, auto targets) {
          sampler.evaluation_sample(std::min(i * world + ranks_.rank(), samples - 1), samples,
                                    tokens, targets);
        });
    trainer::zero::Pass pass = engine_->inference_pass();
    const at::Tensor losses = gpt_token_losses(pass, units_, batch.tokens, batch.targets);
    const std::uint64_t real = (samples + world - 1 - ranks_.rank()) / world;  // not repeated
    const double sum =
        losses.narrow(0, 0, static_cast<std::int64_t>(real)).to(at::kDouble).sum().item<double>();
    return engine_->sum_over_ranks(sum) / (static_cast<double>(samples) * inputs_.context);
  }

  void announce() const {
    fmt::print(
        "{}: {:.2f} M parameters in {} units, {}, offload parameters {}, optimizer {}\n",
        model_label(options_), static_cast<double>(engine_->parameter_count()) / 1e6,
        engine_->states().units().size(), config().dtype == trainer::Dtype::kBf16 ? "bf16" : "fp32",
        to_string(config().offload_param.device), to_string(config().offload_optimizer.device));
    fmt::print("a step: micro-batch {} x accumulation {} x {} ranks ({}) x {} tokens\n",
               config().micro_batch_size, config().gradient_accumulation_steps, ranks_.world_size(),
               ranks_.backend_name(), inputs_.context);
    for (const std::string& note : engine_->states().tiers().notes()) fmt::print("{}\n", note);
    for (const std::string& note : tuning_notes(config())) fmt::print("note: {}\n", note);
    for (const trainer::KeyReport& key : inputs_.config.keys) {
      if (key.fate == trainer::KeyFate::kUsed) continue;
      fmt::print("config {}: {}\n", key.key, key.note);
    }
    std::fflush(stdout);
  }

  void show_sample() {
    trainer::zero::Pass pass = engine_->inference_pass();
    std::vector<std::int64_t> prompt(options_.prompt.begin(), options_.prompt.end());
    for (std::int64_t& token : prompt) token &= 0xff;
    const std::size_t given = prompt.size();
    const trainer::GenerateOptions generate{options_.sample, options_.temperature, config().seed};
    const auto all =
        trainer::generate(pass, units_, inputs_.model.n_positions, std::move(prompt), generate);
    if (!leads()) return;
    fmt::print("\nsample:\n{}", options_.prompt);
    for (std::size_t i = given; i < all.size(); ++i) {
      if (inputs_.model.vocab_size > 256) {
        fmt::print("{} ", all[i]);
      } else {
        std::fputc(static_cast<int>(all[i]), stdout);
      }
    }
    fmt::print("\n");
  }

  void report() {
    if (leads()) print_summary(inputs_, *engine_, totals_);
    if (!options_.memory_report) return;
    for (std::uint32_t rank = 0; rank < ranks_.world_size(); ++rank) {
      if (rank == ranks_.rank()) print_memory_report(inputs_, *engine_);
      std::fflush(stdout);
      ranks_.barrier();
    }
  }

  const TrainOptions& options_;
  const TrainInputs& inputs_;
  Communicator& ranks_;
  trainer::ModelSpec model_;
  trainer::GptUnits units_;
  std::optional<TrainInitialWeights> initial_;
  std::optional<ZeroEngine> engine_;
  std::optional<TrainCheckpoints> checkpoints_;  // what is being saved are the engine's states
  std::optional<TrainMetrics> metrics_;
  RunTotals totals_;
};

void set_threads(const TrainOptions& options, const Communicator& ranks) {
  const std::uint32_t cores = std::max(1u, std::thread::hardware_concurrency());
  const std::uint32_t share = std::max(1u, cores / ranks.local_world_size());
  at::set_num_threads(static_cast<int>(options.threads > 0 ? options.threads : share));
}

// c10d warns of each connection that ends, with a stack; what ends a run is told in one line.
void silence_c10() {
  constexpr int kErrorsOnly = 2;
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = kErrorsOnly;
}

int run(const TrainOptions& options) {
  silence_c10();
  listen_to_signals(/*saves=*/!options.checkpoint_dir.empty());
  std::unique_ptr<Communicator> ranks;
  std::string reason;
  try {
    const at::Device device = options.device == "cpu" ? at::kCPU : at::Device(options.device);
    ranks = Communicator::from_environment(device, std::chrono::seconds(options.rank_timeout_s));
    set_threads(options, *ranks);
    const TrainInputs inputs = check_inputs(options, ranks->world_size());
    // Before and after the run: its file is written whatever ends it.
    TrainTrace trace(options, ranks->rank() == 0);
    Training(options, inputs, *ranks, trace.get()).run();
    trace.write();
    return 0;
  } catch (const trainer::Interrupted&) {
    fmt::print(stderr, "\nspillway train: interrupted; the swap files are removed\n");
    if (ranks) ranks->leave("interrupted");
    return 130;
  } catch (const trainer::Failure& failure) {
    reason = error_text(failure.error());
  } catch (const c10::Error& error) {
    reason = error.what_without_backtrace();
  } catch (const std::exception& error) {
    reason = error.what();
  }
  fmt::print(stderr, "spillway train: {}\n", reason);
  if (ranks) ranks->leave(reason);
  return 1;
}

}  // namespace

void add_train(CLI::App& program, int& exit_code) {
  const auto options = std::make_shared<TrainOptions>();
  CLI::App* command =
      program.add_subcommand("train", "Train a GPT with its states in GPU, CPU memory or on NVMe");
  command->add_option("--model", options->model, "A model's name, or a JSON file with GPT-2's keys")
      ->capture_default_str();
  command->add_option("--data", options->data, "Training tokens: text, llm.c or nanoGPT file")
      ->required();
  command->add_option("--data-format", options->data_format, "Format of the token files")
      ->check(CLI::IsMember({"auto", "text", "llmc", "nanogpt"}))
      ->capture_default_str();
  command->add_option("--eval-data", options->eval_data, "Held-out tokens");
  command->add_option("--eval-every", options->eval_every,
                      "Evaluate every so many steps (0: at the end only)");
  command->add_option("--eval-samples", options->eval_samples, "Samples an evaluation takes")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--config", options->config, "DeepSpeed-style JSON configuration");
  command->add_option("--set", options->set, "A configuration key and value, key=value; may repeat")
      ->allow_extra_args(false);
  command->add_option("--steps", options->steps, "Optimizer steps")->capture_default_str();
  command->add_option("--seed", options->seed, "Seed of initial values, data order and dropout");
  command->add_option("--context", options->context,
                      "Tokens per sample (0: the model's n_positions)");
  command->add_option("--metrics", options->metrics, "Write a JSON object per step to this file");
  command->add_option("--trace", options->trace,
                      "Write what ran when to this file, of rank 0: for Perfetto, chrome://tracing "
                      "and 'spillway trace'");
  command->add_option("--trace-steps", options->trace_steps, "Trace these steps only: 3-5, or 3")
      ->needs("--trace");
  add_initial_option(*command, *options);
  add_checkpoint_options(*command, *options);
  command->add_option("--device", options->device, "Where units run: cpu, cuda or cuda:N")
      ->check([](const std::string& name) {
        const bool known = name == "cpu" || name == "cuda" || name.starts_with("cuda:");
        return known ? std::string() : "'" + name + "' is no device: cpu, cuda or cuda:N";
      })
      ->capture_default_str();
  command->add_option("--threads", options->threads,
                      "Compute threads (0: this machine's cores, shared by its ranks)");
  command
      ->add_option("--rank-timeout", options->rank_timeout_s,
                   "Seconds to wait for another rank: one that is stopped or lost ends all")
      ->check(CLI::Range(1u, 86400u))
      ->capture_default_str();
  command->add_option("--sample", options->sample, "Tokens to generate at the end");
  command->add_option("--prompt", options->prompt, "What the generated text continues");
  command->add_option("--temperature", options->temperature, "Of sampling; 0 takes the likeliest")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_flag("--memory-report", options->memory_report,
                    "Show per rank and tier what is held, and where each parameter lies");
  command->footer(
      "Examples:\n"
      "  spillway train --model gpt-lite-small --data plays.txt --steps 20\n"
      "  spillway train --model gpt-lite --data plays.txt --config nvme.json \\\n"
      "    --set zero_optimization.offload_param.device=none --metrics run.jsonl\n"
      "  spillway train --data plays.txt --checkpoint-dir saved --checkpoint-every 100\n"
      "  spillway train --init-from gpt2 --data plays.bin --data-format llmc --context 256\n"
      "  torchrun --no-python --nproc-per-node 2 spillway train --data plays.txt --config "
      "nvme.json");
  command->callback([options, command, &exit_code] {
    options->model_given = command->count("--model") > 0;
    exit_code = run(*options);
  });
}

}  // namespace spillway::tools
