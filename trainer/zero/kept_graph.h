// KeptGraph: one run of a unit with activation checkpointing off. Forward records the graph of each
// chunk and keeps it; backward fetches the weights to where the graphs look for them (WeightWindow)
// and runs the graphs instead of computing them anew. Used once. One thread at a time.
#pragma once

#include <torch/csrc/autograd/edge.h>

#include <vector>

#include "trainer/stream/weight_window.h"
#include "trainer/zero/unit_run.h"

namespace spillway::trainer::zero {

class KeptGraph {
 public:
  explicit KeptGraph(const Call& call) : call_(call) {}

  // The whole output, without a graph of its own. Throws as zero::run.
  at::Tensor forward(PassState& pass, const variable_list& inputs);
  void backward(PassState& pass, const variable_list& inputs, const at::Tensor& output_gradient,
                variable_list* input_gradients);

 private:
  struct ChunkGraph {
    Chunk chunk;
    torch::autograd::Edge output;  // invalid: nothing in the chunk needs a gradient
  };

  Call call_;
  bool ready_ = false;                 // forward has run, and backward has not
  std::vector<WeightWindow> windows_;  // of the unit and of those it borrows from
  std::vector<ChunkGraph> chunks_;
};

}  // namespace spillway::trainer::zero
