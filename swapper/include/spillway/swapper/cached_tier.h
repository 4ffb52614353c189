// CachedTier: a tier on files that keeps some of its tiles in RAM, and gives the RAM back when
// asked.
//
// Every tile has a place in the lower tier, so demoting one needs no new space and cannot fail for
// want of it. Cached tiles are resident and move no bytes; `stats` and `storage_bytes` are the
// lower tier's. The memory is held in chunks, each with tiles from all over the sequence: while
// chunks are given back, those that stay remain spread over it. Threads: as Tier; demote alone.
#pragma once

#include <spillway/aio/export.h>
#include <spillway/swapper/ram_tier.h>
#include <spillway/swapper/tier.h>
#include <cstdint>
#include <memory>
#include <vector>

namespace spillway::swapper {

struct CacheOptions {
  RamTierOptions ram = {};
  std::uint64_t chunk_bytes = std::uint64_t{64} << 20;  // about; memory is freed in these
  // What memory cannot be had for stays in the lower tier; false: it is an error.
  bool as_much_as_fits = false;
};

class SPILLWAY_API CachedTier : public Tier {
 public:
  // Tile t is held in RAM, zeroed, when cached[t]. kNoMemory as for a RAM tier.
  // REQUIRES: one entry for each tile; nothing was written to the lower tier.
  static Result<std::unique_ptr<CachedTier>> create(std::unique_ptr<Tier> lower,
                                                    const std::vector<bool>& cached,
                                                    const CacheOptions& options = {});

  // Writes cached tiles to the lower tier and frees their memory until `bytes` are free or nothing
  // is cached; says how many were freed. Blocks. After an error all that is still cached is whole
  // in RAM. REQUIRES: no transfer is under way, nobody uses a resident plane, and a buffer of the
  // pool holds any tile.
  virtual Result<std::uint64_t> demote(std::uint64_t bytes, pinned_pool::Pool& pool) = 0;
  virtual std::uint64_t cached_bytes() const noexcept = 0;
  virtual std::uint64_t cached_elements() const noexcept = 0;
};

}  // namespace spillway::swapper
