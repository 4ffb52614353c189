// Tier: the interface of every storage of tiles (RAM, files, and the trainer's GPU memory).
//
// A Tier holds a fixed set of tiles of one Layout, numbered from 0. Asynchronous Transfers move
// planes into and out of Leases. A Tier in addressable memory also returns the addresses of its
// planes (`resident`): then nothing needs to move.
//
// Threads: any thread may start transfers, on different tiles concurrently. The caller orders
// transfers of the same plane of a tile: it waits for one before it starts the next.
#pragma once

#include <spillway/aio/export.h>
#include <spillway/pinned_pool/pool.h>
#include <spillway/swapper/layout.h>
#include <spillway/swapper/range_checks.h>
#include <spillway/swapper/sealed_tile.h>
#include <spillway/swapper/transfer.h>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace spillway::swapper {

struct TierStats {
  std::uint64_t read_bytes = 0;     // moved from the tier's medium, padding included
  std::uint64_t written_bytes = 0;  // moved to it
};

// In a forked child of the process that made the tier, no transfer moves anything: each fails at
// once, and what cannot fail does nothing (aio::OwnerProcess). Memory may not be there at all.
class SPILLWAY_API Tier {
 public:
  virtual ~Tier() = default;

  virtual const char* name() const noexcept = 0;  // "cpu", "nvme", "cuda"
  virtual const Layout& layout() const noexcept = 0;
  virtual std::uint32_t tile_count() const noexcept = 0;
  // REQUIRES: tile < tile_count(), here and in all that follows.
  virtual std::uint64_t tile_elements(TileId tile) const = 0;

  // Returns the address of a plane that the CPU can use in place, or nullptr if it must be moved.
  // Stable for the life of the Tier, except for CachedTier::demote.
  virtual std::byte* resident(TileId tile, std::uint32_t plane) noexcept = 0;

  // Starts to read planes into the Lease, from its start, in the Layout's order. Does not block for
  // the transfer. An urgent read goes first, if the medium has a queue.
  // REQUIRES: capacity of at least layout().range_bytes(planes, elements).
  virtual Transfer read(TileId tile, PlaneRange planes, pinned_pool::Lease lease,
                        aio::Priority priority = aio::Priority::kNormal) = 0;
  // Starts to write planes from the Lease. The Transfer returns the Lease.
  virtual Transfer write(TileId tile, PlaneRange planes, pinned_pool::Lease lease) = 0;

  // Returns checks for one use of the planes, or nullptr if the tier has no checksums: then `read`
  // and `write` suffice. REQUIRES: no block of the planes crosses the end of a range.
  virtual std::unique_ptr<RangeChecks> range_checks(TileId /*tile*/, PlaneRange /*planes*/) {
    return nullptr;
  }

  // True if the tile may have a second generation, to roll writes back.
  virtual bool keeps_generations(TileId /*tile*/) const noexcept { return false; }
  // Keeps the tile's present bytes: on files its next write goes to another place, in memory they
  // are copied. kNoSpace if the spare space is used up, kNoMemory. REQUIRES:
  // keeps_generations(tile); nothing kept of this tile yet; the next write on files covers all
  // planes; no transfer of the tile in flight.
  virtual Result<void> keep_generation(TileId tile);
  // Frees the kept generation. REQUIRES, for both: a generation is kept; no transfer of it is in
  // flight.
  virtual void drop_kept(TileId tile);
  // Makes the kept generation the current one again, and drops later writes.
  virtual void roll_back(TileId tile);
  // Makes the tiles on files immutable where they are: their segments are never written again, and
  // the next write of a tile goes to a new segment and covers all planes. Reserves space for the
  // tiles that are `rewritten`; others must not be written again. Does nothing for tiles in memory.
  // Waits for dropped Transfers. After kDeadline, or kNoSpace with the arithmetic, nothing is
  // sealed. REQUIRES: one entry per tile; nothing kept, no transfer in flight, no concurrent call.
  virtual Result<void> seal(const std::vector<bool>& rewritten);
  // Returns the place of the present bytes if they are sealed; nothing for a tile in memory, or
  // written since.
  virtual std::optional<SealedTile> sealed(TileId /*tile*/) const { return std::nullopt; }

  virtual TierStats stats() const noexcept = 0;
  // Return the bytes of memory and of storage that the tiles take.
  virtual std::uint64_t memory_bytes() const noexcept = 0;
  virtual std::uint64_t storage_bytes() const noexcept = 0;
};

}  // namespace spillway::swapper
