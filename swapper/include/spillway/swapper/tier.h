// Tier: where tiles live. The one interface below everything that uses tiles.
//
// A Tier holds a fixed set of tiles, numbered from 0, of one Layout. Planes are moved by
// asynchronous Transfers into and out of Leases; a Tier whose tiles lie in addressable memory also
// hands out their addresses (`resident`), and then nothing need be moved at all. RAM and files
// are here, a GPU's memory is the trainer's.
//
// Threads: any thread may start transfers, on different tiles at the same time. Ordering transfers
// of one plane of one tile (write, then read) is the caller's business: wait for one before the
// next is started.
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

class SPILLWAY_API Tier {
 public:
  virtual ~Tier() = default;

  virtual const char* name() const noexcept = 0;  // "cpu", "nvme", "cuda"
  virtual const Layout& layout() const noexcept = 0;
  virtual std::uint32_t tile_count() const noexcept = 0;
  // REQUIRES: tile < tile_count(), here and in all that follows.
  virtual std::uint64_t tile_elements(TileId tile) const = 0;

  // Address of a plane that can be used in place by the CPU, or nullptr when it must be moved.
  // Stable for the life of the Tier, but for CachedTier::demote.
  virtual std::byte* resident(TileId tile, std::uint32_t plane) noexcept = 0;

  // Moves planes into the Lease, from its start, in the Layout's order. Does not block for the
  // transfer. `priority` is for a medium that has a queue: an urgent read passes what waits there.
  // REQUIRES: capacity of at least layout().range_bytes(planes, elements).
  virtual Transfer read(TileId tile, PlaneRange planes, pinned_pool::Lease lease,
                        aio::Priority priority = aio::Priority::kNormal) = 0;
  // Moves planes out of the Lease. The Lease comes back with the Transfer.
  virtual Transfer write(TileId tile, PlaneRange planes, pinned_pool::Lease lease) = 0;

  // nullptr when the tier has no checksums: then read and write do all there is to do.
  // REQUIRES: the planes' blocks do not reach over the bounds of ranges.
  virtual std::unique_ptr<RangeChecks> range_checks(TileId /*tile*/, PlaneRange /*planes*/) {
    return nullptr;
  }

  // Second generations, to take writes back. Whether the tile may have one.
  virtual bool keeps_generations(TileId /*tile*/) const noexcept { return false; }
  // Keeps the tile's present bytes as they are: on files the next write of it goes to another
  // place, in memory they are copied. REQUIRES: keeps_generations(tile); nothing kept of this tile
  // yet; the next write on files covers all planes; no transfer of the tile is under way.
  // kNoSpace when the spare room is used up, kNoMemory.
  virtual Result<void> keep_generation(TileId tile);
  // Gives the kept generation's place back. REQUIRES: something is kept; no transfer of it is under
  // way, for both.
  virtual void drop_kept(TileId tile);
  // The kept generation becomes the current one again; what was written since is dropped.
  virtual void roll_back(TileId tile);
  // Leaves what lies on files now as it is, for good: the segments of written tiles are never
  // written again; the next write of a tile goes to a new one and covers all planes. Room for it is
  // made here, for tiles that are `rewritten`; others are not to be written again. Does nothing for
  // tiles in memory. Transfers that were dropped are waited for. kDeadline, or kNoSpace with the
  // arithmetic: nothing is sealed.
  // REQUIRES: one entry a tile; nothing is kept, no transfer is under way, and nobody else uses it.
  virtual Result<void> seal(const std::vector<bool>& rewritten);
  // Where the present bytes lie, when they are sealed: not for a tile in memory, or written since.
  virtual std::optional<SealedTile> sealed(TileId /*tile*/) const { return std::nullopt; }

  virtual TierStats stats() const noexcept = 0;
  // Bytes of memory and of storage that the tiles take.
  virtual std::uint64_t memory_bytes() const noexcept = 0;
  virtual std::uint64_t storage_bytes() const noexcept = 0;
};

}  // namespace spillway::swapper
