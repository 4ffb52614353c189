// ActivationStore: offloads activations between a unit's forward and its backward, to page-locked
// RAM or to NVMe.
//
// An activation moves when the next one is put: the last one of a forward, which backward needs
// first, never does. Writes run behind forward through a few buffers, checksummed on NVMe; reads
// run ahead of backward, in the reverse order of `put`, as far as buffers reach. A tensor that
// several units take is kept once. Places are made in the first step and reused. A Waiting may
// outlive the store, with the graph that holds it; it can then not be taken. Thread-safe: libtorch
// may run backward and drop graphs on threads of its own.
#pragma once

#include <ATen/core/Tensor.h>
#include "trainer/states/model_states.h"

#include <cstdint>
#include <memory>

namespace spillway::trainer {

class ActivationStore {
 public:
  // Allocates nothing yet: the first activation says what is needed.
  explicit ActivationStore(ModelStates& states);
  ~ActivationStore();

  // One activation; its place is free again when it is dropped.
  class Waiting;

  // True if `put` would move it: offloading is configured, a unit made it, and it is not small.
  // Moving what the caller owns (tokens) gains nothing.
  bool moves(const at::Tensor& activation) const;
  // Offloads `activation`. Shared, because several units may take one tensor. Blocks while no
  // buffer is free. Throws Failure: no space, an earlier write. REQUIRES: moves(activation).
  std::shared_ptr<Waiting> put(const at::Tensor& activation);
  // Returns the values in a tensor where units compute, without a graph. Blocks until they are
  // there and verified. Throws Failure. The tensor may lie in the store's memory: do not change it,
  // nor use it after `waiting` is dropped.
  at::Tensor take(const std::shared_ptr<Waiting>& waiting);

  // Bytes held in RAM and on NVMe from step to step, without I/O buffers.
  std::uint64_t memory_bytes() const;
  std::uint64_t storage_bytes() const;
  // The most bytes that were put and had not moved yet.
  std::uint64_t peak_computing_bytes() const;
  // Seconds that forward and backward have waited for it so far.
  double wait_seconds() const;

 private:
  struct State;
  std::shared_ptr<State> state_;  // the Waitings look for it, and find nothing when it is gone
};

}  // namespace spillway::trainer
