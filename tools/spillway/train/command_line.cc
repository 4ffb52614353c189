#include <spillway/trainer/device.h>

#include "tools/spillway/train/options.h"

namespace spillway::tools {
namespace {

void add_data_options(CLI::App& command, TrainOptions& options) {
  command.add_option("--model", options.model, "A model's name, or a JSON file with GPT-2's keys")
      ->capture_default_str();
  command.add_option("--data", options.data, "Training tokens: text, llm.c or nanoGPT file")
      ->required();
  command.add_option("--data-format", options.data_format, "Format of the token files")
      ->check(CLI::IsMember({"auto", "text", "llmc", "nanogpt"}))
      ->capture_default_str();
  command.add_option("--eval-data", options.eval_data, "Held-out tokens");
  command.add_option("--eval-every", options.eval_every,
                     "Evaluate every so many steps (0: at the end only)");
  command.add_option("--eval-samples", options.eval_samples, "Samples an evaluation takes")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

void add_step_options(CLI::App& command, TrainOptions& options) {
  command.add_option("--config", options.config, "DeepSpeed-style JSON configuration");
  command.add_option("--set", options.set, "A configuration key and value, key=value; may repeat")
      ->allow_extra_args(false);
  command.add_option("--steps", options.steps, "Optimizer steps")->capture_default_str();
  command.add_option("--seed", options.seed, "Seed of initial values, data order and dropout");
  command.add_option("--context", options.context,
                     "Tokens per sample (0: the model's n_positions)");
  command.add_option("--metrics", options.metrics, "Write a JSON object per step to this file");
  command.add_option("--trace", options.trace,
                     "Write what ran when to this file, of rank 0: for Perfetto, chrome://tracing "
                     "and 'spillway trace'");
  command.add_option("--trace-steps", options.trace_steps, "Trace these steps only: 3-5, or 3")
      ->needs("--trace");
  command.add_option(
      "--init-from", options.init_from,
      "Begin with the weights of this directory: safetensors of a GPT-2 (one file or several) and "
      "config.json, which gives the model; --model, if it is given too, must have the same sizes, "
      "and gives the dropout. Where a checkpoint is resumed, that counts");
}

void add_checkpoint_options(CLI::App& command, TrainOptions& options) {
  CLI::Option* directory = command.add_option(
      "--checkpoint-dir", options.checkpoint_dir,
      "Save checkpoints here: at the end, each --checkpoint-every steps, and when SIGTERM or "
      "SIGUSR1 asks to stop (exit code 0)");
  command
      .add_option("--checkpoint-every", options.checkpoint_every,
                  "Save each so many steps (0: not while the run goes on)")
      ->needs(directory)
      ->capture_default_str();
  command.add_option("--keep", options.keep, "Newest checkpoints that stay (0: all)")
      ->needs(directory)
      ->capture_default_str();
  command
      .add_option("--keep-every", options.keep_every,
                  "Checkpoints of each so many steps stay for good (0: none)")
      ->needs(directory)
      ->capture_default_str();
  command.add_option("--resume", options.resume,
                     "auto: from the newest checkpoint in --checkpoint-dir, if there is one; no: "
                     "from the start; PATH: from this one [auto]");
}

void add_machine_options(CLI::App& command, TrainOptions& options) {
  command.add_option("--device", options.device, "Where units run: cpu, cuda or cuda:N")
      ->check([](const std::string& name) {
        const auto checked = trainer::check_device_name(name);
        return checked ? std::string() : checked.error().detail;
      })
      ->capture_default_str();
  command.add_option("--threads", options.threads,
                     "Compute threads (0: this machine's cores, shared by its ranks)");
  command
      .add_option("--rank-timeout", options.rank_timeout_s,
                  "Seconds to wait for another rank: one that is stopped or lost ends all")
      ->check(CLI::Range(1u, 86400u))
      ->capture_default_str();
  command.add_option("--sample", options.sample, "Tokens to generate at the end");
  command.add_option("--prompt", options.prompt, "What the generated text continues");
  command.add_option("--temperature", options.temperature, "Of sampling; 0 takes the likeliest")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_flag("--memory-report", options.memory_report,
                   "Show per rank and tier what is held, and where each parameter lies");
}

}  // namespace

void add_train_options(CLI::App& command, TrainOptions& options) {
  add_data_options(command, options);
  add_step_options(command, options);
  add_checkpoint_options(command, options);
  add_machine_options(command, options);
}

}  // namespace spillway::tools
