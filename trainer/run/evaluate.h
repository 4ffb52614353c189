// Evaluation: the mean loss of held-out data, divided over ranks.
#pragma once

#include <spillway/trainer/data.h>
#include <spillway/trainer/zero_engine.h>
#include "trainer/run/model_in_use.h"

#include <cstdint>

namespace spillway::trainer {

// A rank's samples: every world_size-th of them. All ranks compute as many, so that their
// collectives match; a rank that has fewer repeats the last sample and does not count it.
struct EvaluationShare {
  EvaluationShare(std::uint64_t samples, std::uint32_t rank, std::uint32_t world_size);

  // The number of the i-th sample that this rank computes, i < computed.
  std::uint64_t sample(std::uint64_t i) const;

  std::uint64_t samples = 0;   // of all ranks
  std::uint64_t computed = 0;  // by each rank
  std::uint64_t counted = 0;   // of them, the first ones
  std::uint32_t rank = 0;
  std::uint32_t world_size = 1;
};

struct EvaluationOptions {
  std::uint64_t samples = 64;  // at least 1
  std::uint32_t context = 0;   // tokens
  std::uint64_t seed = 0;
  at::Device device = at::kCPU;
};

// Mean loss over samples of `data` in nats per token, the same samples each time. All ranks call
// it. Blocks. Throws Failure and Interrupted.
double evaluate(ZeroEngine& engine, const ModelInUse& model, Communicator& ranks,
                const TokenFile& data, const EvaluationOptions& options);

}  // namespace spillway::trainer
