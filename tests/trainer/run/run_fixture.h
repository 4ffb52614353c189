// What the tests of Run share: runs of a tiny GPT on a file of tokens, and what they tell.
#pragma once

#include <gtest/gtest.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/run.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/scratch.h"
#include "tests/trainer/support/tiny_gpt.h"
#include "trainer/checkpoint/directory.h"
#include "trainer/models/gpt2/family.h"

namespace spillway::trainer::testing {

// Keeps what a run tells.
class Told : public RunObserver {
 public:
  void progress(const std::string& line) override { lines.push_back(line); }
  void advice(const std::string& line) override { lines.push_back("note: " + line); }
  void resumed(const CheckpointLoaded& checkpoint) override { from = checkpoint.path; }
  void saved(const CheckpointSaved& checkpoint) override { saves.push_back(checkpoint.path); }
  void stopped(std::uint64_t step) override { stopped_after = step; }
  void trace_failed(const Error& error) override { trace_errors.push_back(error.message()); }
  void step(const StepFigures& figures) override {
    losses.push_back(figures.report.loss);
    norms.push_back(figures.report.grad_norm);
    if (figures.eval_loss) evaluations.push_back(*figures.eval_loss);
    if (after_step) after_step(figures.report.step);
  }

  std::vector<std::string> lines;
  std::vector<double> losses, norms, evaluations;
  std::filesystem::path from;
  std::vector<std::filesystem::path> saves;
  std::uint64_t stopped_after = 0;
  std::vector<std::string> trace_errors;
  std::function<void(std::uint64_t)> after_step;
};

class RunTest : public ::testing::Test {
 protected:
  // Tokens below the vocabulary's size, as nanoGPT writes them.
  std::filesystem::path token_file(std::uint64_t seed) const {
    const std::filesystem::path path = scratch_ / ("tokens" + std::to_string(seed) + ".bin");
    std::ofstream file(path, std::ios::binary);
    for (std::uint64_t i = 0; i < 4000; ++i) {
      const auto token = static_cast<std::uint16_t>((i * 2 + derive_seed(seed, i) % 3) % 96);
      file.write(reinterpret_cast<const char*>(&token), sizeof token);
    }
    return path;
  }
  RunInput input(std::uint64_t steps) const {
    return {.model = gpt2_model(tiny_gpt()),
            .config = tiny_training(scratch_.path()),
            .data = value_or_throw(TokenFile::open(token_file(1))),
            .steps = steps};
  }
  // Saves after every step, and keeps all.
  RunInput saving(std::uint64_t steps) const {
    RunInput wanted = input(steps);
    wanted.checkpoints = {.directory = saved_, .every = 1, .keep = {.newest = 0}};
    return wanted;
  }
  RunEnd run(RunInput input, RunObserver* observer = nullptr) const {
    return trainer::Run(std::move(input), *ranks_, observer).train();
  }
  std::vector<std::uint64_t> checkpoints() const { return list_checkpoints(saved_); }

  // What the call fails with.
  template <typename Call>
  static Error failure_of(const Call& call) {
    try {
      call();
    } catch (const Failure& failure) {
      return failure.error();
    }
    ADD_FAILURE() << "it did not fail";
    return make_error(ErrorKind::kIo, "", "", "").value();
  }

  Scratch scratch_;
  const std::filesystem::path saved_ = scratch_ / "saved";
  std::unique_ptr<Communicator> ranks_ = Communicator::from_environment(at::kCPU);
};

}  // namespace spillway::trainer::testing
