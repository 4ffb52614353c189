// ActivationStore: activations that wait between units, from one unit's forward to its backward, in
// page-locked RAM or on NVMe instead of where the units compute.
//
// An activation that is put stays where it is until the next one is put: the last one of a forward
// is needed first in backward, and never moves. The others leave behind the forward that follows
// (write-behind through a few buffers), checksummed on NVMe, and come back in the reverse order of
// `put`, read ahead of the backward as far as the buffers reach. A tensor that several units take
// is kept once. Places are made in the first step and used again in every other.
//
// A Waiting may outlive the store, when the graph that holds it does; it can then no longer be
// taken. Thread-safe: libtorch may run backward and drop graphs on threads of its own.
#pragma once

#include <ATen/core/Tensor.h>
#include "trainer/states/model_states.h"

#include <cstdint>
#include <memory>

namespace spillway::trainer {

class ActivationStore {
 public:
  // Does nothing yet: what is needed follows from the first activation.
  explicit ActivationStore(ModelStates& states);
  ~ActivationStore();

  // One activation; its place is free again when it is dropped.
  class Waiting;

  // Whether `put` would move it: an activation made by a unit, not too small, and the configuration
  // says so. What the caller owns (tokens) gains nothing by moving.
  bool moves(const at::Tensor& activation) const;
  // Shared, because several units may take the same tensor. Blocks while no buffer is free. Throws
  // Failure: no space, an earlier write. REQUIRES: moves(activation).
  std::shared_ptr<Waiting> put(const at::Tensor& activation);
  // The same values in a tensor where the units compute, without a graph. Blocks until they are
  // there and verified. Throws Failure. The tensor may lie in the store's memory: it is not to be
  // changed, nor used when `waiting` is dropped.
  at::Tensor take(const std::shared_ptr<Waiting>& waiting);

  // Held in RAM and on NVMe for all steps to come, without the I/O buffers.
  std::uint64_t memory_bytes() const;
  std::uint64_t storage_bytes() const;
  // The most that has waited where the units compute: what was put and had not left yet.
  std::uint64_t peak_computing_bytes() const;
  // Seconds that forward and backward stood still for it, so far.
  double wait_seconds() const;

 private:
  struct State;
  std::shared_ptr<State> state_;  // the Waitings look for it, and find nothing when it is gone
};

}  // namespace spillway::trainer
