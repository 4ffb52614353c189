#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <spillway/aio/check.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/zero.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <chrono>

namespace spillway::trainer::zero {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The unit's weights are in memory while this lives.
class Fetched {
 public:
  Fetched(Pass& pass, UnitId unit, Phase phase) : pass_(pass), unit_(unit) {
    if (pass.stop != nullptr && pass.stop->load(std::memory_order_relaxed)) throw Interrupted();
    pass.fetcher->acquire(unit, phase);
    start_ = std::chrono::steady_clock::now();
  }
  ~Fetched() {
    if (pass_.compute_seconds != nullptr) {
      const auto elapsed = std::chrono::steady_clock::now() - start_;
      *pass_.compute_seconds += std::chrono::duration<double>(elapsed).count();
    }
    pass_.fetcher->release(unit_);
  }
  Fetched(const Fetched&) = delete;
  Fetched& operator=(const Fetched&) = delete;

 private:
  Pass& pass_;
  UnitId unit_;
  std::chrono::steady_clock::time_point start_;
};

ForwardContext context_for(const Pass& pass, UnitId id, std::int64_t first) {
  ForwardContext context;
  context.training = pass.training;
  context.seed = pass.seed;
  context.step = pass.step;
  context.unit = id;
  context.first_sample = pass.first_sample + static_cast<std::uint64_t>(first);
  const auto units = pass.states->units();
  for (const auto& borrowed : units[id].borrows) {
    context.borrowed.push_back(units[borrowed.owner].parameters[borrowed.parameter]);
  }
  return context;
}

// Calls `body(first, count)` for each chunk of micro-batch size.
template <typename Body>
void for_each_chunk(const Pass& pass, std::int64_t samples, const Body& body) {
  for (std::int64_t first = 0; first < samples; first += pass.chunk_samples) {
    body(first, std::min(pass.chunk_samples, samples - first));
  }
}

at::Tensor forward(Pass& pass, UnitId id, const variable_list& inputs) {
  const at::NoGradGuard no_graph;
  const Fetched fetched(pass, id, Phase::kForward);
  Unit& module = *pass.states->units()[id].module;
  const std::int64_t samples = inputs[0].size(0);
  at::Tensor result;
  for_each_chunk(pass, samples, [&](std::int64_t first, std::int64_t count) {
    std::vector<at::Tensor> chunk;
    for (const at::Tensor& input : inputs) chunk.push_back(input.narrow(0, first, count));
    at::Tensor output = module.forward(chunk, context_for(pass, id, first));
    SPILLWAY_CHECK(output.dim() > 0 && output.size(0) == count,
                   "dimension 0 of a unit's output counts the samples of its inputs");
    if (!result.defined()) {
      auto shape = output.sizes().vec();
      shape[0] = samples;
      result = at::empty(shape, output.options());
    }
    result.narrow(0, first, count).copy_(output);
  });
  return result;
}

// What one chunk's backward differentiates with respect to, and where each gradient goes.
struct Leaves {
  struct Weight {
    UnitId unit;
    std::uint32_t parameter;
  };
  std::vector<at::Tensor> tensors;  // inputs that need a gradient, then weights
  std::vector<std::size_t> inputs;  // their numbers among the unit's inputs
  std::vector<Weight> weights;
};

void collect_weights(const Pass& pass, UnitId id, Leaves* leaves) {
  const auto units = pass.states->units();
  const auto collect = [&](UnitId owner, std::uint32_t parameter) {
    if (units[owner].partition.parameters()[parameter].frozen) return;
    leaves->tensors.push_back(units[owner].parameters[parameter]);
    leaves->weights.push_back({owner, parameter});
  };
  for (std::uint32_t i = 0; i < units[id].parameters.size(); ++i) collect(id, i);
  for (const auto& borrowed : units[id].borrows) collect(borrowed.owner, borrowed.parameter);
}

// A frozen unit whose inputs need no gradient is not fetched again.
bool needs_backward(const Pass& pass, UnitId id, const variable_list& inputs) {
  Leaves leaves;
  collect_weights(pass, id, &leaves);
  return !leaves.weights.empty() ||
         std::any_of(inputs.begin(), inputs.end(),
                     [](const at::Tensor& input) { return input.requires_grad(); });
}

void backward_chunk(Pass& pass, UnitId id, const variable_list& inputs,
                    const at::Tensor& output_gradient, std::int64_t first, std::int64_t count,
                    variable_list* input_gradients) {
  const at::AutoGradMode record(true);
  std::vector<at::Tensor> chunk;
  Leaves leaves;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    at::Tensor piece = inputs[i].detach().narrow(0, first, count);
    if (inputs[i].requires_grad()) {
      piece.requires_grad_(true);
      leaves.tensors.push_back(piece);
      leaves.inputs.push_back(i);
    }
    chunk.push_back(std::move(piece));
  }
  collect_weights(pass, id, &leaves);
  if (leaves.tensors.empty()) return;
  const at::Tensor output =
      pass.states->units()[id].module->forward(chunk, context_for(pass, id, first));
  if (!output.requires_grad()) return;
  const variable_list gradients =
      torch::autograd::grad({output}, leaves.tensors, {output_gradient.narrow(0, first, count)},
                            /*retain_graph=*/false, /*create_graph=*/false, /*allow_unused=*/true);
  const at::NoGradGuard no_graph;
  for (std::size_t i = 0; i < leaves.inputs.size(); ++i) {
    at::Tensor& whole = (*input_gradients)[leaves.inputs[i]];
    if (!whole.defined()) whole = at::zeros_like(inputs[leaves.inputs[i]]);
    if (gradients[i].defined()) whole.narrow(0, first, count).copy_(gradients[i]);
  }
  for (std::size_t i = 0; i < leaves.weights.size(); ++i) {
    const at::Tensor& gradient = gradients[leaves.inputs.size() + i];
    if (!gradient.defined()) continue;
    pass.gradients->add(leaves.weights[i].unit, leaves.weights[i].parameter, gradient);
  }
}

struct Run : torch::autograd::Function<Run> {
  // `anchor` needs a gradient, so that a unit whose inputs need none still gets its backward.
  static at::Tensor forward(AutogradContext* context, Pass* pass, UnitId unit, at::Tensor anchor,
                            const variable_list& inputs) {
    static_cast<void>(anchor);
    context->saved_data["pass"] = reinterpret_cast<std::int64_t>(pass);
    context->saved_data["unit"] = static_cast<std::int64_t>(unit);
    context->save_for_backward(inputs);
    return zero::forward(*pass, unit, inputs);
  }

  static variable_list backward(AutogradContext* context, variable_list output_gradients) {
    Pass& pass = *reinterpret_cast<Pass*>(context->saved_data["pass"].toInt());
    const auto unit = static_cast<UnitId>(context->saved_data["unit"].toInt());
    const variable_list inputs = context->get_saved_variables();
    variable_list input_gradients(inputs.size());
    if (needs_backward(pass, unit, inputs)) {
      const Fetched fetched(pass, unit, Phase::kBackward);
      for_each_chunk(pass, inputs[0].size(0), [&](std::int64_t first, std::int64_t count) {
        backward_chunk(pass, unit, inputs, output_gradients[0], first, count, &input_gradients);
      });
    }
    for (const UnitId id : pass.states->units_needed(unit)) pass.gradients->flush(id);
    variable_list all(3 + inputs.size());
    std::move(input_gradients.begin(), input_gradients.end(), all.begin() + 3);
    return all;
  }
};

}  // namespace

at::Tensor run(Pass& pass, UnitId unit, const std::vector<at::Tensor>& inputs) {
  SPILLWAY_CHECK(unit < pass.states->units().size(), "the unit belongs to the model");
  SPILLWAY_CHECK(!inputs.empty(), "a unit has at least one input");
  for (const at::Tensor& input : inputs) {
    SPILLWAY_CHECK(input.dim() > 0 && input.size(0) == inputs[0].size(0),
                   "dimension 0 of every input counts the same samples");
  }
  if (pass.gradients == nullptr || !at::GradMode::is_enabled()) return forward(pass, unit, inputs);
  const at::Tensor anchor =
      at::zeros({1}, at::TensorOptions().dtype(at::kFloat).device(pass.states->device()))
          .requires_grad_(true);
  return Run::apply(&pass, unit, anchor, inputs);
}

}  // namespace spillway::trainer::zero
