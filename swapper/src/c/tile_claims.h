// TileClaims: which planes of a store's tiles have a transfer in flight.
//
// The C++ layers leave that order to their caller; a C program gets a status instead. Threads: any.
// Ownership: shared with the claims, because an abandoned transfer may outlive its store.
#pragma once

#include <spillway/aio/mutex.h>
#include <spillway/swapper/layout.h>

#include <memory>
#include <unordered_map>

namespace spillway::c {

class TileClaims : public std::enable_shared_from_this<TileClaims> {
 public:
  // Claims the planes until the last copy of the result is dropped; null if one of them is claimed.
  std::shared_ptr<const void> claim(swapper::TileId tile, swapper::PlaneRange planes);

 private:
  struct Claim;

  Mutex mutex_;
  std::unordered_multimap<swapper::TileId, swapper::PlaneRange> claimed_
      SPILLWAY_GUARDED_BY(mutex_);
};

}  // namespace spillway::c
