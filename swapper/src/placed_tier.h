// PlacedTier: a Tier whose tiles are in other Tiers. It forwards each call to the tile's place.
#pragma once

#include <spillway/aio/check.h>
#include <spillway/swapper/tier.h>
#include <utility>
#include <vector>

namespace spillway::swapper {

// `Interface`: Tier, or an interface that extends it.
template <typename Interface>
class PlacedTier : public Interface {
 public:
  std::uint32_t tile_count() const noexcept override {
    return static_cast<std::uint32_t>(places_.size());
  }
  std::uint64_t tile_elements(TileId tile) const override {
    return place(tile).tier->tile_elements(place(tile).tile);
  }
  std::byte* resident(TileId tile, std::uint32_t plane) noexcept override {
    return place(tile).tier->resident(place(tile).tile, plane);
  }
  Transfer read(TileId tile, PlaneRange planes, pinned_pool::Lease lease,
                aio::Priority priority) override {
    return place(tile).tier->read(place(tile).tile, planes, std::move(lease), priority);
  }
  Transfer write(TileId tile, PlaneRange planes, pinned_pool::Lease lease) override {
    return place(tile).tier->write(place(tile).tile, planes, std::move(lease));
  }
  std::unique_ptr<RangeChecks> range_checks(TileId tile, PlaneRange planes) override {
    return place(tile).tier->range_checks(place(tile).tile, planes);
  }
  bool keeps_generations(TileId tile) const noexcept override {
    return place(tile).tier->keeps_generations(place(tile).tile);
  }
  Result<void> keep_generation(TileId tile) override {
    return place(tile).tier->keep_generation(place(tile).tile);
  }
  void drop_kept(TileId tile) override { place(tile).tier->drop_kept(place(tile).tile); }
  void roll_back(TileId tile) override { place(tile).tier->roll_back(place(tile).tile); }
  std::optional<SealedTile> sealed(TileId tile) const override {
    return place(tile).tier->sealed(place(tile).tile);
  }

 protected:
  struct Place {
    Tier* tier = nullptr;
    TileId tile = 0;
  };
  const Place& place(TileId tile) const {
    SPILLWAY_CHECK(tile < places_.size(), "no such tile");
    return places_[tile];
  }

  std::vector<Place> places_;  // of each tile
};

}  // namespace spillway::swapper
