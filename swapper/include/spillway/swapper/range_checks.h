// RangeChecks: checksums of a tile's planes, by who computes on them.
#pragma once

#include <spillway/aio/export.h>
#include <spillway/aio/ticket.h>
#include <spillway/swapper/block_hash.h>
#include <spillway/swapper/layout.h>
#include <spillway/swapper/transfer.h>
#include <cstddef>
#include <span>

namespace spillway::swapper {

// One use of some planes of a tile, whose bytes the caller verifies and records himself while they
// are in the cache. Not to outlive its Tier; until it is dropped no other transfer writes those
// planes. verify and record: any thread, different ranges at the same time. A range starts at a
// multiple of kRangeElements and is whole ones, or reaches to the end of the tile.
class SPILLWAY_API RangeChecks {
 public:
  virtual ~RangeChecks() = default;

  // As Tier::read, but nothing is verified.
  virtual Transfer read(pinned_pool::Lease lease, aio::Priority priority) = 0;
  // Whether the range, of planes that start at `planes`, is what was written last; kCorrupt when
  // not.
  virtual Result<void> verify(const std::byte* planes, ElementRange range) = 0;
  // The range is now what shall be written. REQUIRES: not recorded yet; verified, if it was read.
  virtual void record(const std::byte* planes, ElementRange range) = 0;

  // Whether a range is one checksum block of each plane: then whoever computes may hash the planes
  // himself, by BlockHash, and give one for each plane, in order, of one range.
  virtual bool takes_hashes() const noexcept = 0;
  // As verify of bytes, with what was hashed of the range as it was read. REQUIRES: takes_hashes().
  virtual Result<void> verify(std::span<const BlockHash> planes, ElementRange range) = 0;
  // As record of bytes, with what was hashed as it shall be written. REQUIRES: takes_hashes().
  virtual void record(std::span<const BlockHash> planes, ElementRange range) = 0;
  // As Tier::write. REQUIRES: every range recorded.
  virtual Transfer write(pinned_pool::Lease lease) = 0;
};

}  // namespace spillway::swapper
