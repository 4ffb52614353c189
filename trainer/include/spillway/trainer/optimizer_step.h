// OptimizerStep: global-norm clipping and the exact update, streamed over the tiles.
//
// Tiles are read, updated by the fused kernel and written back in a pipeline (TileStream); tiles in
// RAM are updated in place by the same code. With the optimizer's states in device memory the CUDA
// kernel does it, with the same arithmetic. The result does not depend on tile size, threads or
// where the tiles live.
#pragma once

#include <spillway/swapper/tile_stream.h>
#include <spillway/trainer/gradient_store.h>
#include <spillway/trainer/model_states.h>
#include <spillway/trainer/optimizer_update.h>

#include <cstdint>
#include <vector>

namespace spillway::trainer {

class OptimizerStep {
 public:
  explicit OptimizerStep(ModelStates& states);

  // The factor that clips gradients of norm `norm` to `max_norm` (0: no clipping, factor 1):
  // min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_.
  static float clip_factor(double norm, double max_norm);

  // Updates every trainable tile with step number `step` (from 1). Blocks until all is written.
  // REQUIRES: the WeightFetcher holds and reads nothing (invalidate). Throws Failure, and
  // Interrupted between two tiles: the states are then of no use any more.
  swapper::StreamStats update(GradientStore& gradients, std::uint64_t step, double learning_rate,
                              float grad_scale);

 private:
  struct TileWork {
    UnitId unit = 0;
    std::uint64_t offset = 0;  // elements from the start of the rank's trainable part
    std::uint64_t elements = 0;
    std::vector<DecayRun> runs;
    std::uint32_t first_element = 0;  // of UpdatePlanes
  };

  void plan_unit(UnitId unit);
  void add_stored_gradients(const GradientStore& gradients);
  at::Tensor gradient_of(const TileWork& work, std::span<const swapper::PartView> parts,
                         GradientStore& gradients) const;
  Result<void> update_tile(const TileWork& work, std::span<const swapper::PartView> parts,
                           const at::Tensor& gradient, const UpdateConstants& constants) const;
  swapper::StreamStats update_on_device(GradientStore& gradients, const UpdateConstants& constants);

  ModelStates* states_;
  std::vector<swapper::Item> items_;
  std::vector<TileWork> work_;
};

}  // namespace spillway::trainer
