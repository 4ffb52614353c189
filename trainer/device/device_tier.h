// DeviceTier: tiles in the memory of a device (offload device "none" where it has its own).
//
// The swapper knows no devices, so this tier is the trainer's. Kernels use planes in place through
// `device_plane`; the host moves them through Leases. A copy is done when the call returns. Any
// thread may read and write different tiles.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/swapper/tier.h>

#include <memory>
#include <vector>

namespace spillway::trainer {

class DeviceTier : public swapper::Tier {
 public:
  // Allocates all tiles, zeroed, on `device`. Throws c10::OutOfMemoryError when it is full.
  static std::unique_ptr<DeviceTier> create(const swapper::Layout& layout,
                                            std::vector<std::uint64_t> tile_elements,
                                            at::Device device);
  // Returns the plane as a flat tensor of bytes on the device. Writing it writes the tile.
  virtual at::Tensor device_plane(swapper::TileId tile, std::uint32_t plane) const = 0;
};

}  // namespace spillway::trainer
