// What forward, recomputation and a kept graph share: fetched weights, chunks, and where the
// gradients of a chunk go. Internal to zero::run.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include <spillway/trainer/zero.h>
#include "trainer/zero/pass.h"

namespace spillway::trainer::zero {

using torch::autograd::variable_list;

// One call of zero::run: the inputs of its forward and, later, of its backward.
struct Call {
  UnitId unit = 0;
  RunOptions options;
  std::vector<at::Tensor> shared;
};

// The unit's weights are in memory while this lives. Throws Interrupted, Failure.
class Fetched {
 public:
  Fetched(PassState& pass, UnitId unit, Phase phase);
  ~Fetched();
  Fetched(const Fetched&) = delete;
  Fetched& operator=(const Fetched&) = delete;

 private:
  PassState& pass_;
  UnitId unit_;
  std::optional<TraceSpan> span_;
  std::chrono::steady_clock::time_point start_;
};

// Calls `body(first, count)` for each chunk; not at all for no samples.
template <typename Body>
void for_each_chunk(const PassState& pass, const Call& call, std::int64_t samples,
                    const Body& body) {
  const std::int64_t most = call.options.chunk > 0 ? call.options.chunk : pass.chunk_samples;
  for (std::int64_t first = 0; first < samples; first += most) {
    body(first, std::min(most, samples - first));
  }
}

// Samples [first, first + count) of a unit's inputs; where a graph is recorded, as leaves of its
// own.
struct Chunk {
  Chunk(const PassState& pass, const Call& call, const variable_list& inputs, std::int64_t first,
        std::int64_t count);

  // Runs the module on it. Throws Failure for a unit that changes its buffers. REQUIRES: the unit
  // is fetched.
  at::Tensor forward(const PassState& pass, const Call& call) const;
  // Throws Failure when `output` comes from parameters that are not among the leaves.
  void check_leaves(const PassState& pass, const Call& call, const at::Tensor& output) const;
  // Hands on what backward yields for `leaves`: to the whole inputs' gradients, and to the store.
  void give(const PassState& pass, const variable_list& whole_inputs,
            const variable_list& gradients, variable_list* input_gradients) const;

  struct Weight {
    UnitId unit;
    std::uint32_t parameter;
  };
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::vector<at::Tensor> inputs;
  // What its backward differentiates with respect to: inputs that need a gradient, then weights.
  std::vector<at::Tensor> leaves;
  std::vector<std::size_t> input_numbers;  // of the former, among the unit's inputs
  std::vector<Weight> weights;             // which the latter are
};

// Puts the output of samples [first, first + output.size(0)) into the whole output, made when it is
// the first. REQUIRES: no graph is recorded.
void put_output(const at::Tensor& output, std::int64_t first, std::int64_t count,
                std::int64_t samples, at::Tensor* whole);

// What the unit returns for no samples. Throws Failure when that is not known.
at::Tensor empty_output(const PassState& pass, const Call& call, const variable_list& inputs);

// A frozen unit whose inputs need no gradient is not fetched again.
bool needs_backward(const PassState& pass, UnitId id, const variable_list& inputs);

}  // namespace spillway::trainer::zero
