#include "tile_claims.h"

#include <algorithm>

namespace spillway::c {

// Of each: `claims` is null until something is claimed.
struct TileClaims::Planes {
  std::shared_ptr<TileClaims> claims;
  swapper::TileId tile = 0;
  std::uint32_t first_plane = 0;

  ~Planes() {
    if (claims == nullptr) return;
    const auto is_ours = [this](const auto& claimed) {
      return claimed.second.first == first_plane;
    };
    const MutexLock lock(claims->mutex_);
    const auto [first, last] = claims->claimed_.equal_range(tile);
    claims->claimed_.erase(std::find_if(first, last, is_ours));
  }
};

struct TileClaims::Stream {
  std::shared_ptr<TileClaims> claims;

  ~Stream() {
    if (claims == nullptr) return;
    const MutexLock lock(claims->mutex_);
    --claims->streams_;
  }
};

struct TileClaims::All {
  std::shared_ptr<TileClaims> claims;

  ~All() {
    if (claims == nullptr) return;
    const MutexLock lock(claims->mutex_);
    claims->all_ = false;
  }
};

// The claims are made first, so that they outlive the lock.

TileClaims::Claim TileClaims::claim(swapper::TileId tile, swapper::PlaneRange planes) {
  const auto overlaps = [&](const auto& claimed) {
    const swapper::PlaneRange& other = claimed.second;
    return other.first < planes.first + planes.count && planes.first < other.first + other.count;
  };
  auto claim = std::make_shared<Planes>();
  const MutexLock lock(mutex_);
  const auto [first, last] = claimed_.equal_range(tile);
  if (all_ || std::any_of(first, last, overlaps)) return nullptr;
  claimed_.emplace(tile, planes);
  claim->tile = tile;
  claim->first_plane = planes.first;
  claim->claims = shared_from_this();
  return claim;
}

TileClaims::Claim TileClaims::claim_stream() {
  auto claim = std::make_shared<Stream>();
  const MutexLock lock(mutex_);
  if (all_) return nullptr;
  ++streams_;
  claim->claims = shared_from_this();
  return claim;
}

TileClaims::Claim TileClaims::claim_all() {
  auto claim = std::make_shared<All>();
  const MutexLock lock(mutex_);
  if (all_ || streams_ > 0 || !claimed_.empty()) return nullptr;
  all_ = true;
  claim->claims = shared_from_this();
  return claim;
}

}  // namespace spillway::c
