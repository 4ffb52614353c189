// What `spillway train` was asked for, and the run that follows from it.
#pragma once

#include <spillway/trainer/communicator.h>
#include <spillway/trainer/run.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace spillway::tools {

struct TrainOptions {
  std::string model = "gpt-lite-small";
  std::string data;
  std::string data_format = "auto";
  std::string eval_data;
  std::uint64_t eval_every = 0;  // steps; 0: at the end only
  std::uint64_t eval_samples = 64;
  std::string config;
  std::vector<std::string> set;
  std::uint64_t steps = 100;
  std::optional<std::uint64_t> seed;
  std::uint32_t context = 0;  // tokens per sample; 0: the model's n_positions
  std::string metrics;
  std::string trace;           // file to write
  std::string trace_steps;     // "A-B" or "A"; empty: all
  std::string checkpoint_dir;  // empty: none are written
  std::uint64_t checkpoint_every = 0;
  std::uint64_t keep = 2;
  std::uint64_t keep_every = 0;
  std::string init_from;     // directory of weights in Hugging Face's layout
  bool model_given = false;  // on the command line
  std::string resume;        // "auto", "no" or a path; empty: auto with a checkpoint_dir, else no
  std::string device = "cpu";
  std::uint32_t threads = 0;  // 0: the cores of this machine shared by its ranks
  std::uint32_t rank_timeout_s =
      static_cast<std::uint32_t>(trainer::Communicator::kDefaultTimeout.count());
  std::uint32_t sample = 0;  // tokens to generate at the end
  std::string prompt = "\n";
  double temperature = 0.8;
  bool memory_report = false;
};

void add_train_options(CLI::App& command, TrainOptions& options);

// The checked input of a run.
struct TrainInputs {
  trainer::RunInput run;
  std::vector<trainer::KeyReport> keys;  // of the configuration
};

// What is trained, for the user: a model's name or file, or the directory it begins from.
const std::string& model_label(const TrainOptions& options);

// Throws trainer::Failure with everything that is wrong in one input.
TrainInputs check_inputs(const TrainOptions& options, std::uint32_t world_size);

}  // namespace spillway::tools
