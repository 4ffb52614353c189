// Shared by the tests of saved states: runs of a tiny model that save, and runs that resume from
// them.
#pragma once

#include <gtest/gtest.h>
#include <spillway/trainer/checkpoint_states.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/zero_engine.h>

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "tests/support/scratch.h"
#include "tests/trainer/checkpoint/directory_files.h"
#include "tests/trainer/support/own_model.h"
#include "tests/trainer/support/tiny_gpt.h"
#include "trainer/checkpoint/directory.h"
#include "trainer/checkpoint/files.h"

namespace spillway::trainer::testing {

inline constexpr int kSavedAt = 2, kSteps = 4;

inline Checkpoint opened(const std::filesystem::path& directory) {
  auto checkpoint = Checkpoint::open(directory);
  if (!checkpoint) throw Failure(checkpoint.error());
  return std::move(*checkpoint);
}

// Verifies every byte of the checkpoint.
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

  // Trains steps `first` to kSteps. Saves after kSavedAt if a directory is given; resumes from a
  // checkpoint if one is given.
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
  std::filesystem::path at(std::uint64_t step) const { return saved_ / checkpoint_name(step); }
  // Saves after every second of six steps, calls `look` for each, and expects that no checkpoint
  // changes.
  using Look = std::function<void(const std::filesystem::path&)>;
  void expect_saved_for_good(const Config& config, const Look& look);
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

inline void CheckpointStatesTest::expect_saved_for_good(const Config& config, const Look& look) {
  const auto engine = own_engine(config, *ranks_);
  std::map<std::uint64_t, std::map<std::string, std::string>> saved;
  for (std::uint64_t step = 1; step <= 6; ++step) {
    train_own(*engine);
    if (step % 2 != 0) continue;
    save_checkpoint(engine->quiet_states(), {.step = step}, saved_.path(), *files_);
    saved[step] = contents(at(step));
    look(at(step));
  }
  for (const auto& [step, files] : saved) {
    EXPECT_EQ(contents(at(step)) == files, true) << "step " << step << " has changed";
    EXPECT_TRUE(whole(at(step)));
    std::filesystem::remove_all(at(step));
  }
}

}  // namespace spillway::trainer::testing
