#include "tools/spillway/train/train.h"

#include <ATen/Parallel.h>
#include <c10/util/Logging.h>
#include <fmt/format.h>
#include <spillway/trainer/device.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/generate.h>
#include <spillway/trainer/run.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <thread>

#include "tools/spillway/common/error_text.h"
#include "tools/spillway/train/console.h"
#include "tools/spillway/train/options.h"
#include "tools/spillway/train/report.h"
#include "tools/spillway/train/signals.h"

namespace spillway::tools {
namespace {

using trainer::Communicator;

void show_sample(trainer::Run& run, const TrainOptions& options, bool leads) {
  std::vector<std::int64_t> prompt(options.prompt.begin(), options.prompt.end());
  for (std::int64_t& token : prompt) token &= 0xff;
  const std::size_t given = prompt.size();
  const auto all = run.generate(std::move(prompt),
                                {options.sample, options.temperature, run.input().config.seed});
  if (!leads) return;
  fmt::print("\nsample:\n{}", options.prompt);
  for (std::size_t i = given; i < all.size(); ++i) {
    if (run.input().model->shape().vocabulary > 256) {
      fmt::print("{} ", all[i]);
    } else {
      std::fputc(static_cast<int>(all[i]), stdout);
    }
  }
  fmt::print("\n");
}

// Prints the table of the run, and each rank's own after the other.
void report(const trainer::Run& run, const TrainOptions& options, Communicator& ranks) {
  if (ranks.rank() == 0) print_summary(run.summary());
  if (!options.memory_report) return;
  for (std::uint32_t rank = 0; rank < ranks.world_size(); ++rank) {
    if (rank == ranks.rank()) print_memory_report(run.summary(), run.memory_map(), rank);
    std::fflush(stdout);
    ranks.barrier();
  }
}

void train(trainer::Run& run, const TrainOptions& options, Communicator& ranks, Console& console) {
  const std::uint64_t done = run.load();
  console.set_done(done);
  const trainer::RunEnd end = run.train();
  console.finish();
  if (end == trainer::RunEnd::kNothingToDo && ranks.rank() == 0) {
    console.progress(
        fmt::format("{} steps are done, of {}: nothing to train", done, options.steps));
  }
  if (end != trainer::RunEnd::kFinished) return;
  if (options.sample > 0) show_sample(run, options, ranks.rank() == 0);
  report(run, options, ranks);
}

void train(const TrainOptions& options, Communicator& ranks) {
  TrainInputs inputs = check_inputs(options, ranks.world_size());
  Console console(ranks);
  trainer::Run run(std::move(inputs.run), ranks, &console);
  if (ranks.rank() == 0) console.announce(run, model_label(options), inputs.keys);
  train(run, options, ranks, console);
  if (const auto trace = run.write_trace()) print_trace(*trace);
}

void set_threads(const TrainOptions& options, const Communicator& ranks) {
  const std::uint32_t cores = std::max(1u, std::thread::hardware_concurrency());
  const std::uint32_t share = std::max(1u, cores / ranks.local_world_size());
  at::set_num_threads(static_cast<int>(options.threads > 0 ? options.threads : share));
}

// c10d warns of each connection that ends, with a stack; the program reports the end of a run in
// one line.
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
    const at::Device device =
        trainer::value_or_throw(trainer::open_device(options.device, Communicator::local_rank()));
    ranks = Communicator::from_environment(device, std::chrono::seconds(options.rank_timeout_s));
    set_threads(options, *ranks);
    train(options, *ranks);
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
  add_train_options(*command, *options);
  command->footer(
      "Examples:\n"
      "  spillway train --model gpt-lite-small --data plays.txt --steps 20\n"
      "  spillway train --model gpt-lite --data plays.txt --config nvme.json \\\n"
      "    --set zero_optimization.offload_param.device=none --metrics run.jsonl\n"
      "  spillway train --data plays.txt --checkpoint-dir saved --checkpoint-every 100\n"
      "  spillway train --init-from models/gpt2 --data plays.bin --data-format llmc --context 256\n"
      "  torchrun --no-python --nproc-per-node 2 spillway train --data plays.txt --config "
      "nvme.json");
  command->callback([options, command, &exit_code] {
    options->model_given = command->count("--model") > 0;
    exit_code = run(*options);
  });
}

}  // namespace spillway::tools
