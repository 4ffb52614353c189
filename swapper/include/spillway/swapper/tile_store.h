// TileStore: tiles in preallocated segment files in one or several directories, every byte
// verified.
//
// The contents are scratch: files are made anew, and removed when the store is dropped. Where a
// tile lies is looked up, never computed: a tile may have two generations at once, the current one
// and a kept one (roll-back, checkpoints). Checksums (block_checksum.h: 64 bits, of each
// checksum_block_bytes of a plane, seeded with tile, plane, block and generation) are kept in RAM,
// so bit rot, torn, lost and misdirected writes and stale generations are all caught when the block
// is read, but for one damaged block in 2^64; the error is kCorrupt and names file, tile, plane and
// offset.
//
// A directory is locked while a store uses it (kBusy for the second job). What a killed process
// left behind is recognised by the lock's list and removed; files the store did not make are never
// touched. Dropping the store waits for what is in flight. Threads: as Tier; generations of
// different tiles may be moved at the same time.
#pragma once

#include <spillway/aio/engine.h>
#include <spillway/aio/export.h>
#include <spillway/swapper/directory_lock.h>
#include <spillway/swapper/tier.h>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace spillway::swapper {

// A checksum is of no more, unless one block of a plane is.
inline constexpr std::size_t kMaxChecksumBlockBytes = std::size_t{256} << 10;
// Bytes of the plane that one checksum is of: those of kRangeElements elements; of fewer, so that
// a range still is whole blocks, when they are more than kMaxChecksumBlockBytes.
SPILLWAY_API std::size_t checksum_block_bytes(const Plane& plane);

struct TileStoreOptions {
  std::vector<std::filesystem::path> directories = {};  // tiles are striped over them; must exist
  // Of each directory, in any unit: a tile goes where it will be done sooner, so that uneven drives
  // are balanced. Empty: measured when `measure_speeds` (about a second for each of several
  // directories, by aio::measure_path_speed), else all alike.
  std::vector<double> speeds = {};
  bool measure_speeds = false;
  // Locks the caller holds already, to have several stores on one directory; a directory that has
  // none here is locked by the store.
  std::vector<std::shared_ptr<DirectoryLock>> locks = {};
  std::string name = "tiles";  // prefix of the segment files: "optimizer"
  std::uint64_t segment_bytes = std::uint64_t{64} << 20;  // at least; a larger tile gets its own
  double spare_fraction = 0.0;  // room for second generations, as a share of the tiles (0 to 1)
  aio::Direct direct = aio::Direct::kAuto;
  bool checksums = true;  // off only for benchmarks that measure their cost
  // Files of a killed job that were removed, and files that work through the page cache.
  aio::LogCallback log = {};
};

class SPILLWAY_API TileStore : public Tier {
 public:
  // Takes the locks, checks the space, preallocates all segments. kNoSpace with the arithmetic
  // before a byte is written; kBusy when a file of a segment's name exists; kInvalid for options
  // that make no sense. `engine` must outlive the store. Reading a plane that was never written
  // is kInvalid. REQUIRES: each tile has at least one element.
  static Result<std::unique_ptr<TileStore>> create(aio::Engine& engine, const Layout& layout,
                                                   std::vector<std::uint64_t> tile_elements,
                                                   const TileStoreOptions& options);

  // Of the present bytes. Grows with the first write after keep_generation, and no number comes
  // twice: after a roll-back the next one skips those that were dropped.
  virtual std::uint32_t generation(TileId tile) const = 0;

  struct Place {
    std::string path;
    std::uint64_t offset = 0;  // bytes
    std::uint32_t generation = 0;
  };
  // Where the present bytes lie.
  virtual Place place(TileId tile) const = 0;

  // Who got what: one for each of TileStoreOptions::directories, in order.
  struct DirectoryStats {
    std::string path;
    double speed = 0;                // as given or measured (bytes a second); 1 when all are alike
    std::uint64_t stored_bytes = 0;  // room for tiles, spare places included
    std::uint64_t read_bytes = 0;    // moved from and to it so far
    std::uint64_t written_bytes = 0;
  };
  virtual std::vector<DirectoryStats> directory_stats() const = 0;
};

}  // namespace spillway::swapper
