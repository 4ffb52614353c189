#include "tile_claims.h"

#include <algorithm>

namespace spillway::c {

struct TileClaims::Claim {
  std::shared_ptr<TileClaims> claims;  // null: nothing is claimed yet
  swapper::TileId tile = 0;
  std::uint32_t first_plane = 0;

  ~Claim() {
    if (claims == nullptr) return;
    const auto is_ours = [this](const auto& claimed) {
      return claimed.second.first == first_plane;
    };
    const MutexLock lock(claims->mutex_);
    const auto [first, last] = claims->claimed_.equal_range(tile);
    claims->claimed_.erase(std::find_if(first, last, is_ours));
  }
};

std::shared_ptr<const void> TileClaims::claim(swapper::TileId tile, swapper::PlaneRange planes) {
  const auto overlaps = [&](const auto& claimed) {
    const swapper::PlaneRange& other = claimed.second;
    return other.first < planes.first + planes.count && planes.first < other.first + other.count;
  };
  auto claim = std::make_shared<Claim>();  // outlives the lock
  const MutexLock lock(mutex_);
  const auto [first, last] = claimed_.equal_range(tile);
  if (std::any_of(first, last, overlaps)) return nullptr;
  claimed_.emplace(tile, planes);
  claim->tile = tile;
  claim->first_plane = planes.first;
  claim->claims = shared_from_this();
  return claim;
}

}  // namespace spillway::c
