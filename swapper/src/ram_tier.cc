#include <spillway/aio/check.h>
#include <spillway/aio/owner_process.h>
#include <spillway/pinned_pool/limits.h>
#include <spillway/swapper/ram_tier.h>
#include <atomic>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "ram_tier_within.h"

namespace spillway::swapper {
namespace {

class RamTier final : public Tier {
 public:
  RamTier(const Layout& layout, std::vector<std::uint64_t> tile_elements,
          std::vector<std::size_t> offsets, std::optional<pinned_pool::Slab> slab)
      : layout_(layout),
        tile_elements_(std::move(tile_elements)),
        offsets_(std::move(offsets)),
        slab_(std::move(slab)),
        kept_(tile_elements_.size()) {}

  const char* name() const noexcept override { return "cpu"; }
  const Layout& layout() const noexcept override { return layout_; }
  std::uint32_t tile_count() const noexcept override {
    return static_cast<std::uint32_t>(tile_elements_.size());
  }
  std::uint64_t tile_elements(TileId tile) const override {
    SPILLWAY_CHECK(tile < tile_elements_.size(), "no such tile");
    return tile_elements_[tile];
  }
  std::byte* resident(TileId tile, std::uint32_t plane) noexcept override {
    SPILLWAY_CHECK(tile < tile_elements_.size(), "no such tile");
    SPILLWAY_CHECK(plane < layout_.plane_count(), "no such plane");
    return slab_->data() + offsets_[tile] + layout_.plane_offset(plane, tile_elements(tile));
  }

  Transfer read(TileId tile, PlaneRange planes, pinned_pool::Lease lease, aio::Priority) override {
    const std::size_t bytes = check_transfer(tile, planes, lease);
    if (!owner_.is_here()) return Transfer::completed(tl::unexpected(owner_.error("read")));
    std::memcpy(lease.data(), resident(tile, planes.first), bytes);
    read_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    return Transfer::completed(std::move(lease));
  }
  Transfer write(TileId tile, PlaneRange planes, pinned_pool::Lease lease) override {
    const std::size_t bytes = check_transfer(tile, planes, lease);
    if (!owner_.is_here()) return Transfer::completed(tl::unexpected(owner_.error("write")));
    std::memcpy(resident(tile, planes.first), lease.data(), bytes);
    written_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    return Transfer::completed(std::move(lease));
  }

  bool keeps_generations(TileId) const noexcept override { return true; }
  Result<void> keep_generation(TileId tile) override {
    SPILLWAY_CHECK(tile < kept_.size(), "no such tile");
    SPILLWAY_CHECK(kept_[tile] == nullptr, "one generation of a tile is kept at a time");
    if (!owner_.is_here()) return tl::unexpected(owner_.error("keep a generation"));
    const std::size_t bytes = layout_.tile_bytes(tile_elements(tile));
    kept_[tile].reset(new (std::nothrow) std::byte[bytes]);
    if (kept_[tile] == nullptr) {
      return make_error(ErrorKind::kNoMemory, "keep a generation", "",
                        "tile " + std::to_string(tile) + ": " + std::to_string(bytes) + " bytes");
    }
    std::memcpy(kept_[tile].get(), resident(tile, 0), bytes);
    kept_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    return {};
  }
  void drop_kept(TileId tile) override {
    SPILLWAY_CHECK(tile < kept_.size() && kept_[tile] != nullptr,
                   "no generation of this tile is kept");
    kept_[tile].reset();
    kept_bytes_.fetch_sub(layout_.tile_bytes(tile_elements(tile)), std::memory_order_relaxed);
  }
  void roll_back(TileId tile) override {
    SPILLWAY_CHECK(tile < kept_.size() && kept_[tile] != nullptr,
                   "no generation of this tile is kept");
    if (!owner_.is_here()) return;
    std::memcpy(resident(tile, 0), kept_[tile].get(), layout_.tile_bytes(tile_elements(tile)));
    drop_kept(tile);
  }

  TierStats stats() const noexcept override {
    return {read_bytes_.load(std::memory_order_relaxed),
            written_bytes_.load(std::memory_order_relaxed)};
  }
  std::uint64_t memory_bytes() const noexcept override {
    return (slab_ ? slab_->size_bytes() : 0) + kept_bytes_.load(std::memory_order_relaxed);
  }
  std::uint64_t storage_bytes() const noexcept override { return 0; }

 private:
  std::size_t check_transfer(TileId tile, PlaneRange planes,
                             const pinned_pool::Lease& lease) const {
    SPILLWAY_CHECK(planes.count > 0, "a transfer moves at least one plane");
    const std::size_t bytes = layout_.range_bytes(planes, tile_elements(tile));
    SPILLWAY_CHECK(bytes <= lease.capacity(), "the planes exceed the buffer");
    return bytes;
  }

  const aio::OwnerProcess owner_;  // a forked child may not have the memory
  const Layout layout_;
  const std::vector<std::uint64_t> tile_elements_;
  const std::vector<std::size_t> offsets_;          // of each tile in the slab
  std::optional<pinned_pool::Slab> slab_;           // none when there are no tiles
  std::vector<std::unique_ptr<std::byte[]>> kept_;  // of each tile: the bytes to go back to
  std::atomic<std::uint64_t> kept_bytes_{0};
  std::atomic<std::uint64_t> read_bytes_{0};
  std::atomic<std::uint64_t> written_bytes_{0};
};

}  // namespace

Result<std::unique_ptr<Tier>> make_ram_tier(const Layout& layout,
                                            std::vector<std::uint64_t> tile_elements,
                                            const RamTierOptions& options) {
  auto limits = pinned_pool::MemoryLimits::read();
  return make_ram_tier_within(limits, layout, std::move(tile_elements), options);
}

Result<std::unique_ptr<Tier>> make_ram_tier_within(pinned_pool::MemoryLimits& limits,
                                                   const Layout& layout,
                                                   std::vector<std::uint64_t> tile_elements,
                                                   const RamTierOptions& options) {
  if (!layout.bytes_of_tiles(tile_elements)) {
    return make_error(
        ErrorKind::kNoMemory, "make tiles in RAM", "",
        std::to_string(tile_elements.size()) + " tiles take more than any machine can address");
  }
  std::vector<std::size_t> offsets;
  offsets.reserve(tile_elements.size());
  std::size_t size_bytes = 0;
  for (const std::uint64_t elements : tile_elements) {
    SPILLWAY_CHECK(elements > 0, "a tile has at least one element");
    offsets.push_back(size_bytes);
    size_bytes += layout.tile_bytes(elements);
  }
  std::optional<pinned_pool::Slab> slab;
  if (size_bytes > 0) {
    const pinned_pool::PlannedMemory plan{
        .what = std::to_string(tile_elements.size()) + " tiles in RAM",
        .bytes = size_bytes,
        .locked = options.lock == pinned_pool::Policy::kRequired};
    if (auto fits = check_plan({plan}, limits); !fits) {
      return tl::unexpected(std::move(fits.error()));
    }
    auto created = pinned_pool::Slab::create({.size_bytes = size_bytes,
                                              .huge_pages = options.huge_pages,
                                              .lock = options.lock,
                                              .cuda = options.cuda,
                                              .numa_node = options.numa_node});
    if (!created) return tl::unexpected(std::move(created.error()));
    slab.emplace(std::move(*created));
    limits.untouched_bytes += slab->size_bytes();
    if (slab->locked()) limits.locked_bytes += slab->size_bytes();
  }
  return std::make_unique<RamTier>(layout, std::move(tile_elements), std::move(offsets),
                                   std::move(slab));
}

}  // namespace spillway::swapper
