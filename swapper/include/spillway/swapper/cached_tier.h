// CachedTier: a tier on files that caches some of its tiles in RAM and can evict them.
//
// Every tile has a place in the lower tier, so an eviction needs no new space and cannot fail for
// lack of it. Cached tiles are resident and move no bytes; `stats` and `storage_bytes` are those of
// the lower tier. The memory is in chunks, each with tiles from all over the sequence, so that the
// cached tiles stay evenly spread while chunks are freed. Threads: as Tier; no call may run beside
// `demote`. Ownership: it owns the lower tier.
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
  std::uint64_t chunk_bytes = std::uint64_t{64} << 20;  // about; the unit in which memory is freed
  // True: tiles without memory stay in the lower tier; false: too little memory is an error.
  bool as_much_as_fits = false;
};

class SPILLWAY_API CachedTier : public Tier {
 public:
  // Caches tile t in RAM, zeroed, if `cached[t]`. kNoMemory as for a RAM tier.
  // REQUIRES: one entry for each tile; nothing was written to the lower tier.
  static Result<std::unique_ptr<CachedTier>> create(std::unique_ptr<Tier> lower,
                                                    const std::vector<bool>& cached,
                                                    const CacheOptions& options = {});

  // Evicts cached tiles: writes them to the lower tier and frees their memory, until `bytes` are
  // freed or nothing is cached. Returns the bytes freed. Blocks. After an error the tiles that are
  // still cached are complete in RAM. REQUIRES: no transfer in flight, no use of a resident plane;
  // a buffer of the pool holds any tile.
  virtual Result<std::uint64_t> demote(std::uint64_t bytes, pinned_pool::Pool& pool) = 0;
  virtual std::uint64_t cached_bytes() const noexcept = 0;
  virtual std::uint64_t cached_elements() const noexcept = 0;
};

}  // namespace spillway::swapper
