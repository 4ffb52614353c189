// GradientSpill: gradients on NVMe, in tiles as the optimizer's states are cut, written behind.
//
// Writes and reads have buffers of their own, so that an update that reads in the background and a
// backward that writes never wait for each other. One thread at a time; `part` from any.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/swapper/tile_stream.h>
#include "trainer/states/model_states.h"

#include <cstdint>
#include <deque>
#include <vector>

namespace spillway::trainer {

class GradientSpill {
 public:
  // Throws Failure.
  explicit GradientSpill(ModelStates& states);
  ~GradientSpill();

  // Rounds `sum` (fp32, this rank's part of the unit, in RAM) and starts to write it. Blocks while
  // no buffer is free. Throws Failure, also for an earlier write.
  void write(UnitId unit, const at::Tensor& sum);
  // Zeros for a unit that got no gradient; costs nothing when it has had none before.
  void write_zeros(UnitId unit);
  // Reads the unit's gradient back into `sum`. Blocks. Throws Failure.
  void read(UnitId unit, const at::Tensor& sum);
  // Blocks until all is written. Throws Failure.
  void drain();

  swapper::Part part(UnitId unit, std::uint32_t trainable_tile) const;
  std::uint64_t storage_bytes() const noexcept { return store_->storage_bytes(); }

 private:
  // Calls body(tile, this tile's range of `part`), in order.
  template <typename Body>
  void for_each_tile(UnitId unit, const at::Tensor& part, const Body& body);
  void write_tiles(UnitId unit, const at::Tensor& sum);
  pinned_pool::Lease take_buffer();

  ModelStates* states_;
  at::ScalarType type_;
  swapper::Tier* store_;
  pinned_pool::Pool* writing_;
  pinned_pool::Pool* reading_;
  std::deque<swapper::Transfer> writes_;
  std::vector<bool> zero_;  // per unit: what is stored is zeros
};

}  // namespace spillway::trainer
