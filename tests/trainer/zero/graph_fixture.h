// Trains the model of own_model.h by a graph that the test defines.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <vector>

#include "tests/support/scratch.h"
#include "tests/trainer/support/own_model.h"
#include "tests/trainer/support/tiny_gpt.h"

namespace spillway::trainer::testing {

class GraphTest : public ::testing::Test {
 protected:
  using Graph = std::function<at::Tensor(zero::Pass&, const Samples&)>;

  Trace train_graph(const Config& config, const Graph& graph, int steps) {
    ZeroEngine engine(config, own_model(), *ranks_, at::kCPU);
    Trace trace;
    for (int step = 1; step <= steps; ++step) {
      const Samples samples = samples_of(step, static_cast<std::int64_t>(config.train_batch_size));
      const StepReport report = engine.step([&](zero::Pass& pass) { return graph(pass, samples); });
      trace.losses.push_back(report.loss);
      trace.grad_norms.push_back(report.grad_norm);
    }
    return trace;
  }

  // Runs the whole model once.
  static at::Tensor run_all(zero::Pass& pass, const Samples& samples) {
    const auto run = [&](UnitId unit, const std::vector<at::Tensor>& inputs) {
      return zero::run(pass, unit, inputs);
    };
    return own_losses(run, samples.points, samples.wanted).mean();
  }

  Scratch scratch_;
  std::unique_ptr<Communicator> ranks_ = Communicator::from_environment(at::kCPU);
};

}  // namespace spillway::trainer::testing
