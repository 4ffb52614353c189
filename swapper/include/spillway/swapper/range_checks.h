// RangeChecks: verifies and records checksums inside the loop that computes on a tile.
#pragma once

#include <spillway/aio/export.h>
#include <spillway/aio/ticket.h>
#include <spillway/swapper/block_hash.h>
#include <spillway/swapper/layout.h>
#include <spillway/swapper/transfer.h>
#include <cstddef>
#include <span>

namespace spillway::swapper {

// RangeChecks: one use of some planes of a tile. The caller verifies and records their bytes while
// they are in the cache. A range starts at a multiple of kRangeElements and has a multiple of them,
// or reaches the end of the tile. Threads: any may `verify` and `record`, on different ranges.
// Ownership: the Tier outlives it. REQUIRES: while it exists, no other transfer writes the planes.
class SPILLWAY_API RangeChecks {
 public:
  virtual ~RangeChecks() = default;

  // As Tier::read, without verification.
  virtual Transfer read(pinned_pool::Lease lease, aio::Priority priority) = 0;
  // Checks that the range has the bytes written last; kCorrupt if not. `planes`: the first byte of
  // the planes.
  virtual Result<void> verify(const std::byte* planes, ElementRange range) = 0;
  // Records the range's bytes as those to write. REQUIRES: not recorded yet; verified, if read.
  virtual void record(const std::byte* planes, ElementRange range) = 0;

  // True if a range is one checksum block of each plane. The caller may then hash the planes itself
  // and pass one BlockHash per plane, in order, to the overloads below.
  virtual bool takes_hashes() const noexcept = 0;
  // As `verify` above, with the hashes of the bytes read. REQUIRES: takes_hashes().
  virtual Result<void> verify(std::span<const BlockHash> planes, ElementRange range) = 0;
  // As `record` above, with the hashes of the bytes to write. REQUIRES: takes_hashes().
  virtual void record(std::span<const BlockHash> planes, ElementRange range) = 0;
  // As Tier::write. REQUIRES: every range recorded.
  virtual Transfer write(pinned_pool::Lease lease) = 0;
};

}  // namespace spillway::swapper
