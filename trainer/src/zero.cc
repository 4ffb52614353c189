#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <spillway/aio/check.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/zero.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <algorithm>
#include <chrono>

namespace spillway::trainer::zero {
namespace {

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

// The graph's node. It has a backward even where no input needs a gradient: the unit's weights do.
struct RunNode final : torch::autograd::Node {
  RunNode(Pass& pass, UnitId unit, const variable_list& inputs) : pass_(pass), unit_(unit) {
    for (const at::Tensor& input : inputs) saved_.emplace_back(input, /*is_output=*/false);
    set_next_edges(torch::autograd::collect_next_edges(inputs));
  }

  std::string name() const override { return "zero::run"; }

  variable_list apply(variable_list&& output_gradients) override {
    variable_list inputs;
    for (const auto& input : saved_) inputs.push_back(input.unpack());
    variable_list input_gradients(inputs.size());
    // Where a gradient stopped above (a detach), none comes: it is zero for all below.
    if (output_gradients[0].defined() && needs_backward(pass_, unit_, inputs)) {
      const Fetched fetched(pass_, unit_, Phase::kBackward);
      for_each_chunk(pass_, inputs[0].size(0), [&](std::int64_t first, std::int64_t count) {
        backward_chunk(pass_, unit_, inputs, output_gradients[0], first, count, &input_gradients);
      });
    }
    for (const UnitId id : pass_.states->units_needed(unit_)) pass_.gradients->flush(id);
    return input_gradients;
  }

  void release_variables() override {
    for (auto& input : saved_) input.reset_data();
  }

 private:
  Pass& pass_;
  UnitId unit_;
  std::vector<torch::autograd::SavedVariable> saved_;
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
  at::Tensor output = forward(pass, unit, inputs);
  const std::shared_ptr<torch::autograd::Node> node(new RunNode(pass, unit, inputs),
                                                    torch::autograd::deleteNode);
  torch::autograd::set_history(output, node);
  return output;
}

}  // namespace spillway::trainer::zero
