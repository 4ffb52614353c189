#include "trainer/zero/unit_run.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <spillway/aio/check.h>
#include <spillway/trainer/failure.h>

#include "trainer/device/own_pages.h"

namespace spillway::trainer::zero {
namespace {

ForwardContext context_for(const PassState& pass, UnitId id, std::int64_t first) {
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

Chunk::Chunk(const PassState& pass, UnitId id, const variable_list& whole_inputs,
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
  for_each_trainable(pass, id, [&](UnitId owner, std::uint32_t parameter) {
    leaves.push_back(pass.states->units()[owner].parameters[parameter]);
    weights.push_back({owner, parameter});
  });
}

at::Tensor Chunk::forward(const PassState& pass, UnitId id) const {
  return pass.states->units()[id].module->forward(inputs, context_for(pass, id, first));
}

void Chunk::give(const PassState& pass, const variable_list& whole_inputs,
                 const variable_list& gradients, variable_list* input_gradients) const {
  for (std::size_t i = 0; i < input_numbers.size(); ++i) {
    at::Tensor& whole = (*input_gradients)[input_numbers[i]];
    if (!whole.defined()) {
      const at::Tensor& input = whole_inputs[input_numbers[i]];
      whole = empty_on_own_pages(input.sizes(), input.options()).zero_();
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
    *whole = empty_on_own_pages(shape, output.options().requires_grad(false));
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
