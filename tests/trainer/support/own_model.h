// A model that is no GPT and uses what units may do: a frozen unit, a frozen parameter, a unit used
// twice, parameters that nothing uses, three inputs, a borrowed parameter. And the same model in
// plain libtorch: one graph, all parameters in memory.
#pragma once

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <spillway/trainer/zero_engine.h>
#include <torch/nn/modules/linear.h>
#include "trainer/base/seed.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace spillway::trainer::testing {

inline constexpr std::int64_t kInputs = 6, kWidth = 24, kHidden = 40;

struct Lift final : Unit {  // frozen as a whole
  torch::nn::Linear wave = register_module("wave", torch::nn::Linear(kInputs, kWidth));
  Lift() {
    for (at::Tensor& p : parameters()) p.requires_grad_(false);
  }
  at::Tensor forward(const std::vector<at::Tensor>& inputs, const ForwardContext&) override {
    return wave(inputs[0].to(wave->weight.scalar_type())).sin();
  }
};

struct Residual final : Unit {  // one parameter is frozen
  torch::nn::Linear in = register_module("in", torch::nn::Linear(kWidth, kHidden));
  torch::nn::Linear out = register_module("out", torch::nn::Linear(kHidden, kWidth));
  Residual() { in->bias.requires_grad_(false); }
  at::Tensor forward(const std::vector<at::Tensor>& inputs, const ForwardContext&) override {
    return inputs[0] + out(in(inputs[0]).tanh());
  }
};

struct Gate final : Unit {  // inputs: features, what opens the gate, the points
  torch::nn::Linear gate = register_module("gate", torch::nn::Linear(kWidth, kWidth));
  torch::nn::Linear unused = register_module("unused", torch::nn::Linear(kWidth, 3));
  torch::nn::Linear direct = register_module("direct", torch::nn::Linear(kInputs, kWidth));
  at::Tensor forward(const std::vector<at::Tensor>& inputs, const ForwardContext&) override {
    return inputs[0] * gate(inputs[1]).sigmoid() +
           direct(inputs[2].to(direct->weight.scalar_type()));
  }
};

struct Readout final : Unit {  // borrows Residual's in.weight; inputs: features, wanted value
  torch::nn::Linear value = register_module("value", torch::nn::Linear(kHidden, 1));
  at::Tensor forward(const std::vector<at::Tensor>& inputs,
                     const ForwardContext& context) override {
    const at::Tensor hidden = at::linear(inputs[0], context.borrowed.at(0)).relu();
    return (value(hidden).squeeze(1).to(at::kFloat) - inputs[1]).square();
  }
};

enum OwnUnit : UnitId { kLift, kResidual, kGate, kReadout };

inline ModelSpec own_model() {
  ModelSpec model;
  model.add({"lift", [] { return std::make_shared<Lift>(); }, {}});
  model.add({"residual", [] { return std::make_shared<Residual>(); }, {}});
  model.add({"gate", [] { return std::make_shared<Gate>(); }, {}});
  model.add({"readout", [] { return std::make_shared<Readout>(); }, {{kResidual, "in.weight"}}});
  return model;
}

// Computes the graph by run(unit, inputs) -> output. Returns each sample's loss.
template <typename Run>
at::Tensor own_losses(const Run& run, const at::Tensor& points, const at::Tensor& wanted) {
  const at::Tensor lifted = run(kLift, {points});
  const at::Tensor once = run(kResidual, {lifted});
  const at::Tensor twice = run(kResidual, {once});
  const at::Tensor gated = run(kGate, {twice, once, points});
  return run(kReadout, {gated, wanted});
}

inline at::Tensor plain_losses(const std::vector<std::shared_ptr<Unit>>& modules,
                               const at::Tensor& points, const at::Tensor& wanted) {
  const auto run = [&](UnitId unit, const std::vector<at::Tensor>& inputs) {
    ForwardContext context;
    context.training = true;
    if (unit == kReadout) context.borrowed = {modules[kResidual]->named_parameters()["in.weight"]};
    return modules[unit]->forward(inputs, context);
  };
  return own_losses(run, points, wanted);
}

struct Samples {
  at::Tensor points, wanted;
};

inline Samples samples_of(std::uint64_t step, std::int64_t count) {
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU).clone();
  generator.set_current_seed(derive_seed(3, step));
  const at::Tensor points = at::randn({count, kInputs}, generator);
  return {points, points.sum(1).sin() + points.select(1, 0) * points.select(1, 1)};
}

}  // namespace spillway::trainer::testing
