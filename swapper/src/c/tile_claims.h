// TileClaims: which planes of a store's tiles have a transfer in flight, and who has the store.
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
  // Claims something until the last copy is dropped. Null if another claim forbids it.
  using Claim = std::shared_ptr<const void>;
  // Claims the planes, beside streams and claims of other planes.
  Claim claim(swapper::TileId tile, swapper::PlaneRange planes);
  // Claims that the store is not claimed as a whole while a stream runs.
  Claim claim_stream();
  // Claims the store as a whole, alone.
  Claim claim_all();

 private:
  struct Planes;
  struct Stream;
  struct All;

  Mutex mutex_;
  std::size_t streams_ SPILLWAY_GUARDED_BY(mutex_) = 0;
  bool all_ SPILLWAY_GUARDED_BY(mutex_) = false;
  std::unordered_multimap<swapper::TileId, swapper::PlaneRange> claimed_
      SPILLWAY_GUARDED_BY(mutex_);
};

}  // namespace spillway::c
