// Trains a small GPT, saves it and evaluates it: what `spillway train` does, by the library.
//   train_and_resume TOKENS HELD_OUT_TOKENS CHECKPOINTS STEPS
// Run it again after it was killed, or with more steps: it goes on from the newest checkpoint, with
// the same losses as if nothing had happened. Under torchrun every process is a rank.
#include <spillway/trainer/failure.h>
#include <spillway/trainer/run.h>

#include <cstdio>
#include <cstdlib>

using namespace spillway::trainer;

// The run prints nothing itself: it tells an observer what happens, on rank 0.
struct Printer final : RunObserver {
  void resumed(const CheckpointLoaded& from) override {
    std::printf("from %s\n", from.path.c_str());
  }
  void step(const StepFigures& figures) override {
    std::printf("step %d loss %.17g\n", static_cast<int>(figures.report.step), figures.report.loss);
    std::fflush(stdout);
  }
};

void train(char** arguments) {
  const auto ranks = Communicator::from_environment(at::kCPU);
  ConfigInput config{.overrides = {"train_batch_size=4", "train_micro_batch_size_per_gpu=2",
                                   "bf16.enabled=true", "optimizer.type=AdamW"},
                     .world_size = ranks->world_size()};
  Printer printer;
  Run run({.model = value_or_throw(load_model_config("gpt-lite-small")),
           .config = value_or_throw(load_config(config)).config,
           .data = value_or_throw(TokenFile::open(arguments[1])),
           .eval_data = value_or_throw(TokenFile::open(arguments[2])),
           .steps = std::strtoull(arguments[4], nullptr, 10),
           .checkpoints = {.directory = arguments[3], .every = 2}},
          *ranks, &printer);
  run.train();
  const double loss = run.evaluate();
  if (ranks->rank() == 0) std::printf("held out: loss %.17g\n", loss);
}

int main(int count, char** arguments) try {
  if (count != 5) throw std::runtime_error("TOKENS HELD_OUT_TOKENS CHECKPOINTS STEPS");
  train(arguments);
} catch (const std::exception& error) {
  std::fprintf(stderr, "train_and_resume: %s\n", error.what());
  return 1;
}
