// OptimizerStep: clips by the global norm and updates every tile, exactly.
//
// Tiles are read, updated by the fused kernel and written back in a pipeline (TileStream). Tiles in
// RAM are updated in place by the same code. If the optimizer's states lie in device memory the
// CUDA kernel updates them, with the same arithmetic. The bits do not depend on the tile size, the
// threads, the place of a tile, or the time of its update: at once, or by BackgroundUpdate.
#pragma once

#include <spillway/swapper/tile_stream.h>
#include "trainer/kernels/update.h"
#include "trainer/states/model_states.h"
#include "trainer/stream/background_update.h"
#include "trainer/stream/gradient_store.h"
#include "trainer/stream/tile_update.h"

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
  // REQUIRES: the WeightFetcher holds and reads nothing (invalidate); no update is in progress.
  // Throws Failure, and Interrupted between two tiles: then the states are of no use any more.
  swapper::StreamStats update(std::uint64_t step, double learning_rate, float grad_scale);
  // Throws the Failure of an update that failed: resident tiles may come from damaged bytes.
  void require_intact() const;
  // Starts the same update in the background, the units in `order` first, the others after them.
  // Reads the gradients until background().wait_until_computed() has returned.
  // REQUIRES, besides: the optimizer's states are not in device memory.
  BackgroundUpdate::SpeculativeTiles start(std::uint64_t step, double learning_rate,
                                           float grad_scale, const std::vector<UnitId>& order);
  // Before backward: starts to update each unit once its gradient is final, in this order, on the
  // assumption that the norm will not be clipped. `start` must follow: it keeps these updates, or
  // rolls them back bit for bit. REQUIRES: as `start`; can_speculate().
  void start_speculative(std::uint64_t step, double learning_rate,
                         const std::vector<UnitId>& order);
  // True if some tiles can be updated on speculation: those whose optimizer states are on files, if
  // their gradients are not.
  bool can_speculate() const noexcept { return can_speculate_; }
  BackgroundUpdate& background() noexcept { return *background_; }

 private:
  struct StepInputs {
    UpdateConstants constants;
    std::vector<at::Tensor> gradients;  // of each unit, this rank's part; empty: they are streamed
  };
  // Neighbouring elements of a tile with one weight decay.
  struct DecayRun {
    std::uint64_t offset = 0;  // elements from the start of the tile
    std::uint64_t elements = 0;
    bool decay = true;
  };
  struct TileWork {
    UnitId unit = 0;
    std::size_t tile = 0;      // of the unit
    std::uint64_t offset = 0;  // elements from the start of the rank's trainable part
    std::uint64_t elements = 0;
    std::vector<DecayRun> runs;       // without gaps
    std::uint32_t first_element = 0;  // of UpdatePlanes
  };

  void plan_unit(UnitId unit);
  BackgroundUpdate::Compute compute_with(StepInputs inputs) const;
  StepInputs inputs_of(std::uint64_t step, double learning_rate, float grad_scale) const;
  TileUpdate update_of(const TileWork& work, std::span<const swapper::PartView> parts,
                       const StepInputs& inputs) const;
  Result<void> compute(const TileWork& work, std::span<const swapper::PartView> parts,
                       const StepInputs& inputs) const;
  swapper::StreamStats update_on_device(const StepInputs& inputs);

  ModelStates* states_;
  GradientStore* gradients_;
  std::vector<swapper::Item> items_;  // one for each of work_
  std::vector<TileWork> work_;
  bool can_speculate_ = false;
  std::optional<Error> failed_;                   // update()
  std::unique_ptr<BackgroundUpdate> background_;  // uses the above: goes first
};

}  // namespace spillway::trainer
