// What the tests of saved states share: runs of a tiny model that save, and go on from what was
// saved.
#pragma once

#include <gtest/gtest.h>
#include <spillway/trainer/checkpoint_directory.h>
#include <spillway/trainer/checkpoint_states.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/zero_engine.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "../support/scratch.h"
#include "own_model.h"
#include "tiny_gpt.h"

namespace spillway::trainer::testing {

inline constexpr int kSavedAt = 2, kSteps = 4;

inline Checkpoint opened(const std::filesystem::path& directory) {
  auto checkpoint = Checkpoint::open(directory);
  if (!checkpoint) throw Failure(checkpoint.error());
  return std::move(*checkpoint);
}

inline std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline std::map<std::string, std::string> contents(const std::filesystem::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    files[entry.path().filename()] = bytes_of(entry.path());
  }
  return files;
}

// Of all files in it.
inline std::set<ino_t> inodes(const std::filesystem::path& directory) {
  std::set<ino_t> found;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    struct stat status {};
    if (::stat(entry.path().c_str(), &status) == 0 && S_ISREG(status.st_mode)) {
      found.insert(status.st_ino);
    }
  }
  return found;
}

// Every byte of the checkpoint is what was written.
inline bool whole(const std::filesystem::path& path) {
  return opened(path).verify([](const Error& error) { ADD_FAILURE() << error.message(); }) == 0;
}

class CheckpointStatesTest : public ::testing::Test {
 protected:
  Config config(OffloadDevice param, OffloadDevice optimizer) const {
    Config config = tiny_training(swap_.path());
    config.offload_param.device = param;
    config.offload_optimizer.device = optimizer;
    return config;
  }
  Config in_memory() const { return config(OffloadDevice::kNone, OffloadDevice::kNone); }

  // Steps `first` to kSteps; saves after kSavedAt when a directory is given, goes on from a
  // checkpoint when one is.
  Trace run(const Config& config, const std::filesystem::path& save = {},
            Checkpoint* from = nullptr, CheckpointFiles* files = nullptr) {
    ModelSpec model;
    const GptUnits units = add_gpt(model, tiny_gpt());
    ZeroEngine engine(config, model, *ranks_, at::kCPU);
    if (from != nullptr) {
      load_checkpoint(engine.quiet_states(), *from);
      engine.resume_after(from->manifest().step);
    }
    const std::int64_t length = tiny_gpt().n_positions;
    Trace trace;
    while (engine.steps_done() < kSteps) {
      const at::Tensor tokens =
          sample_tokens(engine.steps_done() + 1, 8, length + 1, tiny_gpt().vocab_size);
      const StepReport report = engine.step([&](zero::Pass& pass) {
        return gpt_token_losses(pass, units, tokens.narrow(1, 0, length),
                                tokens.narrow(1, 1, length))
                   .sum() /
               static_cast<double>(8 * length);
      });
      trace.losses.push_back(report.loss);
      trace.grad_norms.push_back(report.grad_norm);
      if (!save.empty() && engine.steps_done() == kSavedAt) {
        save_checkpoint(engine.quiet_states(), {.step = kSavedAt}, save,
                        files != nullptr ? *files : *files_);
      }
    }
    return trace;
  }
  static Trace rest(const Trace& all) {
    return {{all.losses.begin() + kSavedAt, all.losses.end()},
            {all.grad_norms.begin() + kSavedAt, all.grad_norms.end()}};
  }

  Scratch swap_;
  Scratch saved_;
  std::unique_ptr<CheckpointFiles> files_ = make_checkpoint_files();
  std::unique_ptr<Communicator> ranks_ = Communicator::from_environment(at::kCPU);
};

// A model with frozen parts, a unit used twice and a borrowed parameter, trained for a step.
inline std::unique_ptr<ZeroEngine> own_engine(const Config& config, Communicator& ranks) {
  return std::make_unique<ZeroEngine>(config, own_model(), ranks, at::kCPU);
}

inline StepReport train_own(ZeroEngine& engine) {
  const Samples samples = samples_of(engine.steps_done() + 1, 8);
  return engine.step([&](zero::Pass& pass) {
    const auto run = [&](UnitId unit, const std::vector<at::Tensor>& inputs) {
      return zero::run(pass, unit, inputs);
    };
    return own_losses(run, samples.points, samples.wanted).sum() / 8.0;
  });
}

}  // namespace spillway::trainer::testing
