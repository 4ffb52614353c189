// InitialWeights: the weights that a run begins with, of a directory in Hugging Face's layout.
#pragma once

#include <spillway/trainer/run_report.h>
#include <spillway/trainer/zero_engine.h>
#include "trainer/interchange/hf_import.h"

#include <filesystem>

namespace spillway::trainer {

class InitialWeights {
 public:
  // Opens the files and checks that they are of `model`, before anything is allocated for it.
  // Throws Failure.
  InitialWeights(const std::filesystem::path& directory, const ModelConfig& model);

  // Streams the weights into the states. All ranks call it. Throws Failure and Interrupted.
  InitialWeightsLoaded load(ZeroEngine& engine);

 private:
  HuggingFaceWeights weights_;
};

}  // namespace spillway::trainer
