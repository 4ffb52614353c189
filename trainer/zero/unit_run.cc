#include "trainer/zero/unit_run.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <spillway/aio/check.h>
#include <spillway/trainer/failure.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>

#include <set>
#include <string>
#include <utility>

#include "trainer/device/device.h"

namespace spillway::trainer::zero {
namespace {

[[noreturn]] void refuse(const PassState& pass, UnitId id, std::string why) {
  throw Failure(make_error(ErrorKind::kUnsupported,
                           "run unit " + pass.states->units()[id].partition.name(), "",
                           std::move(why))
                    .value());
}

ForwardContext context_for(const PassState& pass, const Call& call, std::int64_t first) {
  const UnitId id = call.unit;
  ForwardContext context;
  context.inference = pass.gradients == nullptr;
  context.method = call.options.method;
  context.shared = call.shared;
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

// Calls `body(owner, parameter)` for each trainable parameter that the unit has or borrows.
template <typename Body>
void for_each_trainable(const PassState& pass, UnitId id, const Body& body) {
  const auto units = pass.states->units();
  const auto visit = [&](UnitId owner, std::uint32_t parameter) {
    if (!units[owner].partition.parameters()[parameter].frozen) body(owner, parameter);
  };
  for (std::uint32_t i = 0; i < units[id].parameters.size(); ++i) visit(id, i);
  for (const auto& borrowed : units[id].borrows) visit(borrowed.owner, borrowed.parameter);
}

// Sees whether a forward changes the unit's buffers: by their versions, and the first time by their
// values too, for not every operation of torch counts as a change.
class BufferWatch {
 public:
  explicit BufferWatch(ModelStates::UnitState& unit) : unit_(unit) {
    for (const auto& buffer : unit.buffers) {
      versions_.push_back(buffer.value._version());
      if (!unit.buffers_checked) values_.push_back(buffer.value.clone());
    }
  }
  // The name of one that has changed; empty: none.
  std::string changed() {
    for (std::size_t i = 0; i < unit_.buffers.size(); ++i) {
      const auto& buffer = unit_.buffers[i];
      const bool same = static_cast<std::uint32_t>(buffer.value._version()) == versions_[i] &&
                        (values_.empty() || buffer.value.equal(values_[i]));
      if (!same) return buffer.name;
    }
    unit_.buffers_checked = true;
    return {};
  }

 private:
  ModelStates::UnitState& unit_;
  std::vector<std::uint32_t> versions_;
  std::vector<at::Tensor> values_;
};

// What a unit's output was like for inputs of these sizes.
std::vector<std::vector<std::int64_t>> trailing_sizes(const variable_list& inputs) {
  std::vector<std::vector<std::int64_t>> sizes;
  for (const at::Tensor& input : inputs) sizes.push_back(input.sizes().slice(1).vec());
  return sizes;
}

void remember_output(const PassState& pass, const Call& call, const variable_list& inputs,
                     const at::Tensor& output) {
  auto& known = pass.states->units()[call.unit].outputs[call.options.method];
  known.inputs = trailing_sizes(inputs);
  known.sizes = output.sizes().vec();
  known.type = output.scalar_type();
}

// The leaves of the graph that made `output`.
std::vector<at::Tensor> graph_leaves(const at::Tensor& output) {
  std::vector<at::Tensor> leaves;
  std::vector<torch::autograd::Node*> open{output.grad_fn().get()};
  std::set<torch::autograd::Node*> seen(open.begin(), open.end());
  while (!open.empty()) {
    torch::autograd::Node* const node = open.back();
    open.pop_back();
    if (auto* leaf = dynamic_cast<torch::autograd::AccumulateGrad*>(node)) {
      leaves.push_back(leaf->variable);
    }
    for (const torch::autograd::Edge& edge : node->next_edges()) {
      if (edge.is_valid() && seen.insert(edge.function.get()).second) {
        open.push_back(edge.function.get());
      }
    }
  }
  return leaves;
}

// "'wte.weight' of 'transformer'", or what else it may be.
std::string parameter_text(const PassState& pass, const at::Tensor& parameter) {
  for (const auto& unit : pass.states->units()) {
    for (std::size_t i = 0; i < unit.parameters.size(); ++i) {
      if (!unit.parameters[i].is_same(parameter)) continue;
      return "'" + unit.partition.parameters()[i].name + "' of unit '" + unit.partition.name() +
             "'";
    }
  }
  std::string shape;
  for (const std::int64_t size : parameter.sizes()) {
    shape += (shape.empty() ? "" : " x ") + std::to_string(size);
  }
  return "a tensor of " + shape + " that is of no unit";
}

}  // namespace

Fetched::Fetched(PassState& pass, UnitId unit, Phase phase) : pass_(pass), unit_(unit) {
  if (pass.stop != nullptr && pass.stop->load(std::memory_order_relaxed)) throw Interrupted();
  pass.fetcher->acquire(unit, phase);
  span_.emplace(pass.states->trace(), Lane::kCompute,
                phase == Phase::kForward ? "forward" : "backward",
                TraceArgs{.unit = static_cast<std::int32_t>(unit)});
  start_ = std::chrono::steady_clock::now();
}

Fetched::~Fetched() {
  if (pass_.compute_seconds != nullptr) {
    const auto elapsed = std::chrono::steady_clock::now() - start_;
    *pass_.compute_seconds += std::chrono::duration<double>(elapsed).count();
  }
  span_.reset();
  pass_.fetcher->release(unit_);
}

Chunk::Chunk(const PassState& pass, const Call& call, const variable_list& whole_inputs,
             std::int64_t first_sample, std::int64_t samples)
    : first(first_sample), count(samples) {
  for (std::size_t i = 0; i < whole_inputs.size(); ++i) {
    at::Tensor piece = whole_inputs[i].detach().narrow(0, first, count);
    if (at::GradMode::is_enabled() && whole_inputs[i].requires_grad()) {
      piece.requires_grad_(true);
      leaves.push_back(piece);
      input_numbers.push_back(i);
    }
    inputs.push_back(std::move(piece));
  }
  if (!at::GradMode::is_enabled()) return;
  for_each_trainable(pass, call.unit, [&](UnitId owner, std::uint32_t parameter) {
    leaves.push_back(pass.states->units()[owner].parameters[parameter]);
    weights.push_back({owner, parameter});
  });
}

at::Tensor Chunk::forward(const PassState& pass, const Call& call) const {
  ModelStates::UnitState& unit = pass.states->units()[call.unit];
  BufferWatch buffers(unit);
  at::Tensor output = unit.module->forward(inputs, context_for(pass, call, first));
  if (const std::string changed = buffers.changed(); !changed.empty()) {
    refuse(
        pass, call.unit,
        "its forward changes the buffer '" + changed +
            "'; forward runs again in backward and on parts of a batch, so it must leave buffers "
            "as they are (no batch statistics)");
  }
  if (!output.defined()) refuse(pass, call.unit, "its forward returns no tensor");
  remember_output(pass, call, inputs, output);
  return output;
}

void Chunk::check_leaves(const PassState& pass, const Call& call, const at::Tensor& output) const {
  auto& checked = pass.states->units()[call.unit].methods_checked;
  if (!checked.insert(call.options.method).second) return;
  for (const at::Tensor& leaf : graph_leaves(output)) {
    const bool known = std::any_of(leaves.begin(), leaves.end(),
                                   [&](const at::Tensor& one) { return one.is_same(leaf); });
    if (known) continue;
    refuse(
        pass, call.unit,
        "its forward uses " + parameter_text(pass, leaf) +
            ", which it neither registers nor borrows, so that it would not be trained: name it in "
            "UnitSpec::borrows and take it from ForwardContext::borrowed");
  }
}

at::Tensor empty_output(const PassState& pass, const Call& call, const variable_list& inputs) {
  ModelStates::UnitState& unit = pass.states->units()[call.unit];
  at::Tensor output = unit.module->empty_output(inputs, context_for(pass, call, 0));
  if (!output.defined()) {
    const auto known = unit.outputs.find(call.options.method);
    if (known == unit.outputs.end() || known->second.inputs != trailing_sizes(inputs)) {
      refuse(pass, call.unit,
             "it runs on no samples, and the shape of its output is not known: override "
             "Unit::empty_output");
    }
    auto sizes = known->second.sizes;
    sizes[0] = 0;
    output = at::empty(sizes, inputs[0].options().dtype(known->second.type).requires_grad(false));
  }
  SPILLWAY_CHECK(output.dim() > 0 && output.size(0) == 0, "the output of no samples is empty");
  return output.detach();
}

void Chunk::give(const PassState& pass, const variable_list& whole_inputs,
                 const variable_list& gradients, variable_list* input_gradients) const {
  for (std::size_t i = 0; i < input_numbers.size(); ++i) {
    at::Tensor& whole = (*input_gradients)[input_numbers[i]];
    if (!whole.defined()) {
      const at::Tensor& input = whole_inputs[input_numbers[i]];
      whole = kind_of(input.device()).empty(input.sizes(), input.options()).zero_();
    }
    if (gradients[i].defined()) whole.narrow(0, first, count).copy_(gradients[i]);
  }
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const at::Tensor& gradient = gradients[input_numbers.size() + i];
    if (!gradient.defined()) continue;
    pass.gradients->add(weights[i].unit, weights[i].parameter, gradient);
  }
}

void put_output(const at::Tensor& output, std::int64_t first, std::int64_t count,
                std::int64_t samples, at::Tensor* whole) {
  SPILLWAY_CHECK(output.dim() > 0 && output.size(0) == count,
                 "dimension 0 of a unit's output counts the samples of its inputs");
  if (!whole->defined()) {
    auto shape = output.sizes().vec();
    shape[0] = samples;
    *whole = kind_of(output.device()).empty(shape, output.options().requires_grad(false));
  }
  whole->narrow(0, first, count).copy_(output);
}

bool needs_backward(const PassState& pass, UnitId id, const variable_list& inputs) {
  bool trainable = false;
  for_each_trainable(pass, id, [&](UnitId, std::uint32_t) { trainable = true; });
  return trainable || std::any_of(inputs.begin(), inputs.end(),
                                  [](const at::Tensor& input) { return input.requires_grad(); });
}

}  // namespace spillway::trainer::zero
