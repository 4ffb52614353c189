// GradientSpill: gradients on NVMe, in the tiles of the optimizer's states, written behind.
//
// Writes and reads have separate buffers: an update that reads in the background and a backward
// that writes never wait for each other. One thread at a time; any thread may call `part`.
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
  // no buffer is free. Throws Failure, also of an earlier write.
  void write(UnitId unit, const at::Tensor& sum);
  // Writes zeros for a unit that got no gradient; costs nothing if it had none before.
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
  std::vector<bool> zero_;  // per unit: zeros are stored
};

}  // namespace spillway::trainer
