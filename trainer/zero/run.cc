#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <spillway/aio/check.h>
#include <spillway/trainer/zero.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "trainer/zero/kept_graph.h"
#include "trainer/zero/unit_run.h"

namespace spillway::trainer::zero {
namespace {

at::Tensor forward(PassState& pass, const Call& call, const variable_list& inputs) {
  const at::NoGradGuard no_graph;
  const Fetched fetched(pass, call.unit, Phase::kForward);
  const std::int64_t samples = inputs[0].size(0);
  if (samples == 0) return empty_output(pass, call, inputs);
  at::Tensor result;
  for_each_chunk(pass, call, samples, [&](std::int64_t first, std::int64_t count) {
    const Chunk chunk(pass, call, inputs, first, count);
    put_output(chunk.forward(pass, call), first, count, samples, &result);
  });
  return result;
}

// Runs one chunk again, with a graph, and its backward.
void recompute(PassState& pass, const Call& call, const variable_list& inputs, std::int64_t first,
               std::int64_t count, const at::Tensor& output_gradient,
               variable_list* input_gradients) {
  const at::AutoGradMode record(true);
  const Chunk chunk(pass, call, inputs, first, count);
  if (chunk.leaves.empty()) return;
  const at::Tensor output = chunk.forward(pass, call);
  if (!output.requires_grad()) return;
  chunk.check_leaves(pass, call, output);
  const variable_list gradients =
      torch::autograd::grad({output}, chunk.leaves, {output_gradient.narrow(0, first, count)},
                            /*retain_graph=*/false, /*create_graph=*/false, /*allow_unused=*/true);
  const at::NoGradGuard no_graph;
  chunk.give(pass, inputs, gradients, input_gradients);
}

// An input from forward to backward: with the graph, or in the store of activations.
class SavedInput {
 public:
  SavedInput(const PassState& pass, const at::Tensor& input) {
    const bool recomputed = pass.states->config().activations.checkpointing;
    if (recomputed && pass.activations != nullptr && pass.activations->moves(input)) {
      waiting_ = pass.activations->put(input);
    } else {
      here_ = torch::autograd::SavedVariable(input, /*is_output=*/false);
    }
  }

  at::Tensor unpack(const PassState& pass) const {
    if (waiting_ == nullptr) return here_.unpack();
    return pass.activations->take(waiting_).detach().requires_grad_(true);
  }
  bool same_as(const SavedInput& other) const {
    return waiting_ != nullptr && waiting_ == other.waiting_;
  }
  void drop() {
    here_.reset_data();
    waiting_.reset();
  }

 private:
  torch::autograd::SavedVariable here_;
  std::shared_ptr<ActivationStore::Waiting> waiting_;  // shared with other units that take it
};

// The graph's node. It has a backward even where no input needs a gradient: the unit's weights do.
struct RunNode final : torch::autograd::Node {
  RunNode(std::shared_ptr<PassState> pass, Call call, const variable_list& inputs)
      : pass_(std::move(pass)), call_(std::move(call)) {
    expected_ = pass_->gradients->expect(pass_->states->units_needed(call_.unit));
    for (const at::Tensor& input : inputs) saved_.emplace_back(*pass_, input);
    set_next_edges(torch::autograd::collect_next_edges(inputs));
  }

  // Runs forward; with checkpointing off its graph is kept. Inputs that move leave behind it.
  at::Tensor forward(const variable_list& inputs) {
    if (pass_->states->config().activations.checkpointing) {
      return zero::forward(*pass_, call_, inputs);
    }
    kept_ = std::make_unique<KeptGraph>(call_);
    return kept_->forward(*pass_, inputs);
  }

  std::string name() const override { return "zero::run"; }

  variable_list apply(variable_list&& output_gradients) override {
    const variable_list inputs = unpack();
    variable_list input_gradients(inputs.size());
    // Where a gradient stopped above (a detach), none comes: it is zero for all below.
    if (output_gradients[0].defined() && needs_backward(*pass_, call_.unit, inputs)) {
      backward(inputs, output_gradients[0], &input_gradients);
    }
    expected_.end();
    for (const UnitId id : pass_->states->units_needed(call_.unit)) pass_->gradients->flush(id);
    return input_gradients;
  }

  void release_variables() override {
    for (SavedInput& input : saved_) input.drop();
    kept_.reset();
  }

 private:
  variable_list unpack() const {
    variable_list inputs;
    for (const SavedInput& saved : saved_) {
      const auto end = saved_.begin() + static_cast<std::ptrdiff_t>(inputs.size());
      const auto same = std::find_if(
          saved_.begin(), end, [&](const SavedInput& earlier) { return saved.same_as(earlier); });
      inputs.push_back(same != end ? inputs[same - saved_.begin()] : saved.unpack(*pass_));
    }
    return inputs;
  }

  void backward(const variable_list& inputs, const at::Tensor& output_gradient,
                variable_list* input_gradients) {
    // Of no samples there is no chunk to hand any on; the units below are run as on other ranks.
    for (std::size_t i = 0; inputs[0].size(0) == 0 && i < inputs.size(); ++i) {
      if (inputs[i].requires_grad()) (*input_gradients)[i] = at::zeros_like(inputs[i]);
    }
    if (kept_ != nullptr) {
      kept_->backward(*pass_, inputs, output_gradient, input_gradients);
      return;
    }
    const Fetched fetched(*pass_, call_.unit, Phase::kBackward);
    for_each_chunk(*pass_, call_, inputs[0].size(0), [&](std::int64_t first, std::int64_t count) {
      recompute(*pass_, call_, inputs, first, count, output_gradient, input_gradients);
    });
  }

  std::shared_ptr<PassState> pass_;
  Call call_;
  GradientStore::Expected expected_;
  std::vector<SavedInput> saved_;
  std::unique_ptr<KeptGraph> kept_;  // null: backward computes the graph anew
};

}  // namespace

at::Device Pass::device() const {
  SPILLWAY_CHECK(state_ != nullptr, "the pass is an engine's");
  return state_->states->device();
}

void Pass::set_shared(std::vector<at::Tensor> constants) {
  for (at::Tensor& constant : constants) constant = constant.detach().to(device());
  state_->shared = std::move(constants);
}

at::Tensor run(Pass& pass, UnitId unit, const std::vector<at::Tensor>& inputs,
               const RunOptions& options) {
  SPILLWAY_CHECK(pass.state() != nullptr, "the pass is an engine's");
  PassState& state = *pass.state();
  SPILLWAY_CHECK(unit < state.states->units().size(), "the unit belongs to the model");
  SPILLWAY_CHECK(!inputs.empty(), "a unit has at least one input");
  for (const at::Tensor& input : inputs) {
    SPILLWAY_CHECK(input.dim() > 0 && input.size(0) == inputs[0].size(0),
                   "dimension 0 of every input counts the same samples");
  }
  Call call{unit, options, state.shared};
  if (state.gradients == nullptr || !at::GradMode::is_enabled()) {
    return forward(state, call, inputs);
  }
  const std::shared_ptr<RunNode> node(new RunNode(pass.state(), std::move(call), inputs),
                                      torch::autograd::deleteNode);
  at::Tensor output = node->forward(inputs);
  torch::autograd::set_history(output, node);
  return output;
}

}  // namespace spillway::trainer::zero
