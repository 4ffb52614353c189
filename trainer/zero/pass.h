// PassState: what one sweep over the units works with. Its engine owns what the pointers refer to,
// and outlives it.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "trainer/states/model_states.h"
#include "trainer/stream/activation_store.h"
#include "trainer/stream/gradient_store.h"
#include "trainer/stream/weight_fetcher.h"

namespace spillway::trainer::zero {

struct PassState {
  std::vector<at::Tensor> shared = {};  // of the runs to come, on the device
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

}  // namespace spillway::trainer::zero
