#include "trainer/zero/kept_graph.h"

#include <ATen/core/grad_mode.h>
#include <spillway/aio/check.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <utility>

namespace spillway::trainer::zero {
namespace {

// The gradients of `leaves`, undefined where the graph does not use one.
variable_list run_graph(const torch::autograd::Edge& output, const at::Tensor& output_gradient,
                        const std::vector<at::Tensor>& leaves) {
  variable_list gradients(leaves.size());
  torch::autograd::edge_list wanted;
  std::vector<std::size_t> numbers;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    auto accumulator = torch::autograd::impl::try_get_grad_accumulator(leaves[i]);
    if (accumulator == nullptr) continue;
    wanted.emplace_back(std::move(accumulator), 0);
    numbers.push_back(i);
  }
  if (wanted.empty()) return gradients;
  const variable_list yielded = torch::autograd::Engine::get_default_engine().execute(
      {output}, {output_gradient}, /*keep_graph=*/false, /*create_graph=*/false,
      /*accumulate_grad=*/false, wanted);
  for (std::size_t i = 0; i < numbers.size(); ++i) gradients[numbers[i]] = yielded[i];
  return gradients;
}

}  // namespace

at::Tensor KeptGraph::forward(PassState& pass, const variable_list& inputs) {
  const Fetched fetched(pass, call_.unit, Phase::kForward);
  ready_ = true;
  if (inputs[0].size(0) == 0) return empty_output(pass, call_, inputs);
  for (const UnitId id : pass.states->units_needed(call_.unit)) {
    windows_.emplace_back(pass.states->units()[id]);
  }
  const std::int64_t samples = inputs[0].size(0);
  at::Tensor result;
  for_each_chunk(pass, call_, samples, [&](std::int64_t first, std::int64_t count) {
    const at::AutoGradMode record(true);
    ChunkGraph graph{Chunk(pass, call_, inputs, first, count), {}};
    const at::Tensor output = graph.chunk.forward(pass, call_);
    if (output.requires_grad()) {
      graph.chunk.check_leaves(pass, call_, output);
      graph.output = torch::autograd::impl::gradient_edge(output);
    }
    const at::NoGradGuard no_graph;
    put_output(output, first, count, samples, &result);
    chunks_.push_back(std::move(graph));
  });
  for (WeightWindow& window : windows_) window.close();
  return result;
}

void KeptGraph::backward(PassState& pass, const variable_list& inputs,
                         const at::Tensor& output_gradient, variable_list* input_gradients) {
  SPILLWAY_CHECK(std::exchange(ready_, false),
                 "with activation checkpointing off, backward runs once");
  const Fetched fetched(pass, call_.unit, Phase::kBackward);
  for (WeightWindow& window : windows_) window.open();
  for (ChunkGraph& graph : std::exchange(chunks_, {})) {
    // Dropped with its activations once it has run.
    const ChunkGraph used = std::move(graph);
    if (!used.output.is_valid()) continue;
    const Chunk& chunk = used.chunk;
    const variable_list gradients =
        run_graph(used.output, output_gradient.narrow(0, chunk.first, chunk.count), chunk.leaves);
    const at::NoGradGuard no_graph;
    chunk.give(pass, inputs, gradients, input_gradients);
  }
  windows_.clear();
}

}  // namespace spillway::trainer::zero
