// `spillway train --init-from`: weights to begin with, of a GPT-2 in Hugging Face's layout.
#pragma once

#include <spillway/trainer/zero_engine.h>
#include "trainer/interchange/hf_import.h"

#include <CLI/CLI.hpp>
#include <string>

#include "tools/spillway/train/options.h"

namespace spillway::tools {

void add_initial_option(CLI::App& command, TrainOptions& options);

class TrainInitialWeights {
 public:
  // Opens the files and checks that they are of this model, before anything is allocated for it.
  // Throws trainer::Failure.
  TrainInitialWeights(const TrainOptions& options, const TrainInputs& inputs);

  // Streams them into the states; all ranks together. Returns a line that tells of it.
  std::string set(trainer::ZeroEngine& engine);

 private:
  trainer::Gpt2Weights weights_;
};

}  // namespace spillway::tools
