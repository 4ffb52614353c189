#include "trainer/device/device_tier.h"
#include <ATen/Functions.h>
#include <spillway/aio/check.h>

#include <atomic>

#include "trainer/device/device.h"

namespace spillway::trainer {
namespace {

class TorchDeviceTier final : public DeviceTier {
 public:
  TorchDeviceTier(const swapper::Layout& layout, std::vector<std::uint64_t> elements,
                  at::Device device)
      : kind_(kind_of(device)), layout_(layout), elements_(std::move(elements)) {
    std::uint64_t total = 0;
    for (const std::uint64_t e : elements_) {
      starts_.push_back(total);
      total += layout_.tile_bytes(e);
    }
    bytes_ = kind_.empty({static_cast<std::int64_t>(total)},
                         at::TensorOptions().dtype(at::kByte).device(device));
    bytes_.zero_();
  }

  const char* name() const noexcept override { return kind_.name(); }
  const swapper::Layout& layout() const noexcept override { return layout_; }
  std::uint32_t tile_count() const noexcept override {
    return static_cast<std::uint32_t>(elements_.size());
  }
  std::uint64_t tile_elements(swapper::TileId tile) const override { return elements_[tile]; }
  std::byte* resident(swapper::TileId, std::uint32_t) noexcept override { return nullptr; }

  at::Tensor device_plane(swapper::TileId tile, std::uint32_t plane) const override {
    return bytes_.narrow(0, starts_[tile] + layout_.plane_offset(plane, elements_[tile]),
                         layout_.plane_bytes(plane, elements_[tile]));
  }

  swapper::Transfer read(swapper::TileId tile, swapper::PlaneRange planes, pinned_pool::Lease lease,
                         aio::Priority) override {
    const at::Tensor source = range(tile, planes);
    kind_.copy(on_host(lease, source.numel()), source);
    stats_read_ += source.numel();
    return swapper::Transfer::completed(std::move(lease));
  }
  swapper::Transfer write(swapper::TileId tile, swapper::PlaneRange planes,
                          pinned_pool::Lease lease) override {
    const at::Tensor destination = range(tile, planes);
    kind_.copy(destination, on_host(lease, destination.numel()));
    stats_written_ += destination.numel();
    return swapper::Transfer::completed(std::move(lease));
  }

  swapper::TierStats stats() const noexcept override { return {stats_read_, stats_written_}; }
  std::uint64_t memory_bytes() const noexcept override { return bytes_.numel(); }
  std::uint64_t storage_bytes() const noexcept override { return 0; }

 private:
  at::Tensor range(swapper::TileId tile, swapper::PlaneRange planes) const {
    const std::uint64_t elements = elements_[tile];
    return bytes_.narrow(0, starts_[tile] + layout_.plane_offset(planes.first, elements),
                         layout_.range_bytes(planes, elements));
  }
  static at::Tensor on_host(const pinned_pool::Lease& lease, std::int64_t bytes) {
    SPILLWAY_CHECK(static_cast<std::int64_t>(lease.capacity()) >= bytes,
                   "the lease must hold the planes");
    return at::from_blob(lease.data(), {bytes}, at::TensorOptions().dtype(at::kByte));
  }

  const DeviceKind& kind_;
  swapper::Layout layout_;
  std::vector<std::uint64_t> elements_;
  std::vector<std::uint64_t> starts_;
  at::Tensor bytes_;
  std::atomic<std::uint64_t> stats_read_{0};
  std::atomic<std::uint64_t> stats_written_{0};
};

}  // namespace

std::unique_ptr<DeviceTier> DeviceTier::create(const swapper::Layout& layout,
                                               std::vector<std::uint64_t> tile_elements,
                                               at::Device device) {
  return std::make_unique<TorchDeviceTier>(layout, std::move(tile_elements), device);
}

}  // namespace spillway::trainer
