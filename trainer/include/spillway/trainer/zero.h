// zero::run: one unit of a ZeRO-Infinity model as one node of the autograd graph.
//
// Forward fetches the unit's weights, runs its module chunk by chunk without recording a graph,
// releases the weights, and keeps only the inputs (in an ActivationStore, where one is given).
// Backward fetches, recomputes each chunk with a
// graph, takes its gradients (a nested torch::autograd::grad), sums the parameters' in the
// GradientStore and hands the inputs' on. Weights are thus fetched once in forward and once in
// backward per step, whatever the number of chunks ("vertical order", GreedySnake 2025), and the
// working memory is that of one chunk.
//
// Any graph of calls works. Exceptions thrown inside leave through backward() unchanged.
#pragma once

#include <ATen/core/Tensor.h>
#include "trainer/states/model_states.h"
#include "trainer/stream/activation_store.h"
#include "trainer/stream/gradient_store.h"
#include "trainer/stream/weight_fetcher.h"

#include <atomic>
#include <cstdint>
#include <vector>

namespace spillway::trainer::zero {

// One sweep over the units: a training step's, an evaluation's, a generation's. Must outlive the
// graph made with it.
struct Pass {
  ModelStates* states = nullptr;
  WeightFetcher* fetcher = nullptr;
  GradientStore* gradients = nullptr;      // may be null when no gradient is wanted
  ActivationStore* activations = nullptr;  // null: they wait where they were computed
  std::int64_t chunk_samples = 1;          // micro-batch: samples per forward
  bool training = false;
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
  std::uint64_t first_sample = 0;           // number, in the global batch, of this rank's first
  const std::atomic<bool>* stop = nullptr;  // when set, run throws Interrupted
  double* compute_seconds = nullptr;        // forward and backward computing is added here
};

// Runs `unit` on inputs whose dimension 0 counts samples (the same number in all) and returns its
// output for all samples. Throws Failure, Interrupted, c10::Error. Blocks.
at::Tensor run(Pass& pass, UnitId unit, const std::vector<at::Tensor>& inputs);

}  // namespace spillway::trainer::zero
