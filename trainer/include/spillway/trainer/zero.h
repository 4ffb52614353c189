// zero::run: runs one unit of a ZeRO-Infinity model as one node of the autograd graph.
//
// Forward fetches the unit's weights, runs its module chunk by chunk without recording a graph,
// releases the weights and keeps only the inputs. Backward fetches the weights again, recomputes
// each chunk with a graph, takes its gradients (a nested torch::autograd::grad), sums those of the
// parameters and passes on those of the inputs. So weights are fetched once in forward and once in
// backward per step, whatever the number of chunks ("vertical order", GreedySnake 2025), and the
// working memory is that of one chunk.
//
// Any graph of calls works. Exceptions thrown inside leave through backward() unchanged.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/trainer/unit.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace spillway::trainer::zero {

struct PassState;

// One sweep over the units: a training step's, an evaluation's, a generation's. A ZeroEngine makes
// it and must outlive it. Copies refer to the same sweep; a graph made with it keeps it.
class Pass {
 public:
  Pass() = default;  // of no engine; another one can be assigned to it
  // Makes the pass of an engine; for ZeroEngine only.
  explicit Pass(std::shared_ptr<PassState> state) noexcept : state_(std::move(state)) {}

  // Where units compute.
  at::Device device() const;
  // Gives the runs that follow constants which all samples share (tables of positions, masks):
  // their forwards find them, moved to the device once, in ForwardContext::shared. They are not cut
  // into chunks and get no gradient.
  void set_shared(std::vector<at::Tensor> constants);
  const std::shared_ptr<PassState>& state() const noexcept { return state_; }

 private:
  std::shared_ptr<PassState> state_;  // shared with the nodes of graphs, which may outlive it
};

struct RunOptions {
  std::uint32_t method = 0;  // which of the unit's computations: ForwardContext::method
  std::int64_t chunk = 0;    // samples per forward; 0: the micro-batch
};

// Runs `unit` on `inputs`, whose dimension 0 counts samples (the same number in all), and returns
// its output for all samples. Of no samples: fetches the unit, as other ranks do, and returns
// Unit::empty_output; backward then adds nothing. Throws Failure (a unit that breaks the contract
// of unit.h is named), Interrupted, c10::Error. Blocks.
at::Tensor run(Pass& pass, UnitId unit, const std::vector<at::Tensor>& inputs,
               const RunOptions& options = {});

}  // namespace spillway::trainer::zero
