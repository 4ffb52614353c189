// DeviceTier: tiles in a GPU's memory (offload device "none" on CUDA). The swapper knows no CUDA,
// so this tier is the trainer's. Planes are used in place by device code through `device_plane`;
// host code moves them through Leases (synchronous copies on the current stream).
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/swapper/tier.h>

#include <memory>
#include <vector>

namespace spillway::trainer {

class DeviceTier : public swapper::Tier {
 public:
  // Allocates all tiles, zeroed, on `device`. Throws c10::Error when the device is full.
  static std::unique_ptr<DeviceTier> create(const swapper::Layout& layout,
                                            std::vector<std::uint64_t> tile_elements,
                                            at::Device device);
  // The plane as a flat tensor of bytes on the device; writing it writes the tile.
  virtual at::Tensor device_plane(swapper::TileId tile, std::uint32_t plane) const = 0;
};

}  // namespace spillway::trainer
