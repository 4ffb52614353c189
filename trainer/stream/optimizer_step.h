// OptimizerStep: global-norm clipping and the exact update, streamed over the tiles.
//
// Tiles are read, updated by the fused kernel and written back in a pipeline (TileStream); tiles in
// RAM are updated in place by the same code. With the optimizer's states in device memory the CUDA
// kernel does it, with the same arithmetic. The result does not depend on tile size, threads,
// where the tiles live, or when they are updated: at once, or in the background (BackgroundUpdate).
#pragma once

#include <spillway/swapper/tile_stream.h>
#include "trainer/kernels/update.h"
#include "trainer/states/model_states.h"
#include "trainer/stream/background_update.h"
#include "trainer/stream/gradient_store.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace spillway::trainer {

class OptimizerStep {
 public:
  // Both must outlive it.
  OptimizerStep(ModelStates& states, GradientStore& gradients);

  // The factor that clips gradients of norm `norm` to `max_norm` (0: no clipping, factor 1):
  // min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_.
  static float clip_factor(double norm, double max_norm);

  // Updates every trainable tile with step number `step` (from 1). Blocks until all is written.
  // REQUIRES: the WeightFetcher holds and reads nothing (invalidate), no update is under way.
  // Throws Failure, and Interrupted between two tiles: the states are then of no use any more.
  swapper::StreamStats update(std::uint64_t step, double learning_rate, float grad_scale);
  // Throws the Failure of an update that failed: what is resident may be made of damaged bytes.
  void require_intact() const;
  // As update, in the background, the units in `order` first, the others after them. The gradients
  // are used until background().wait_until_computed() has returned.
  // REQUIRES, besides: the optimizer's states are not in device memory.
  BackgroundUpdate::SpeculativeTiles start(std::uint64_t step, double learning_rate,
                                           float grad_scale, const std::vector<UnitId>& order);
  // Before a backward: begins to update the units whose gradients become final, in this order, as
  // if nothing were to be clipped. `start`, which must follow, finds out whether that was right.
  // REQUIRES: as start; can_speculate().
  void start_speculative(std::uint64_t step, double learning_rate,
                         const std::vector<UnitId>& order);
  // Whether there are tiles that can be updated ahead: those of an optimizer's states on files,
  // unless gradients are too.
  bool can_speculate() const noexcept { return can_speculate_; }
  BackgroundUpdate& background() noexcept { return *background_; }

 private:
  struct StepInputs {
    UpdateConstants constants;
    std::vector<at::Tensor> gradients;  // of each unit, this rank's part; empty: they are streamed
  };
  struct TileWork {
    UnitId unit = 0;
    std::size_t tile = 0;      // of the unit
    std::uint64_t offset = 0;  // elements from the start of the rank's trainable part
    std::uint64_t elements = 0;
    std::vector<DecayRun> runs;
    std::uint32_t first_element = 0;  // of UpdatePlanes
  };

  void plan_unit(UnitId unit);
  BackgroundUpdate::Compute compute_with(StepInputs inputs) const;
  at::Tensor gradient_of(const TileWork& work, std::span<const swapper::PartView> parts,
                         const StepInputs& inputs) const;
  StepInputs inputs_of(std::uint64_t step, double learning_rate, float grad_scale) const;
  Result<void> update_tile(const TileWork& work, std::span<const swapper::PartView> parts,
                           const StepInputs& inputs) const;
  static Result<void> update_verified(const UpdateConstants& constants, const UpdatePlanes& planes,
                                      std::span<const swapper::PartView> parts, std::uint64_t first,
                                      std::uint64_t count);
  static Result<void> update_hashed(const UpdateConstants& constants, const UpdatePlanes& planes,
                                    std::span<const swapper::PartView> parts, std::uint64_t first,
                                    std::uint64_t count);
  swapper::StreamStats update_on_device(const UpdateConstants& constants);

  ModelStates* states_;
  GradientStore* gradients_;
  std::vector<swapper::Item> items_;  // one for each of work_
  std::vector<TileWork> work_;
  bool can_speculate_ = false;
  std::optional<Error> failed_;                   // update()
  std::unique_ptr<BackgroundUpdate> background_;  // uses the above: goes first
};

}  // namespace spillway::trainer
