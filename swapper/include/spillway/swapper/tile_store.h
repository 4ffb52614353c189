// TileStore: a Tier in preallocated segment files of one or several directories, every byte
// verified.
//
// The contents are scratch: the store creates its files and removes them at its end; it never
// touches other files. A tile may have two generations at once, the current one and a kept one, for
// roll-back. The checksums (block_checksum.h) are in RAM, so bit rot, torn, lost and misdirected
// writes and stale generations are detected when a block is read, up to one in 2^64; the error
// (kCorrupt) names file, tile, plane and offset.
//
// Threads: as Tier. Ownership: a store locks its directories (kBusy for a second job) and removes
// the files of a killed job. Its destructor waits for transfers in flight. In a forked child every
// transfer fails at once (aio::OwnerProcess), and the destructor leaves the parent's files alone.
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

// The largest checksum block, unless one block of a plane is larger.
inline constexpr std::size_t kMaxChecksumBlockBytes = std::size_t{256} << 10;
// Returns the bytes of the plane's checksum blocks: those of kRangeElements elements, or a whole
// fraction of them if they exceed kMaxChecksumBlockBytes.
SPILLWAY_API std::size_t checksum_block_bytes(const Plane& plane);

struct TileStoreOptions {
  std::vector<std::filesystem::path> directories = {};  // tiles are striped over them; must exist
  // The speed of each directory, in any unit: a tile goes where it is written sooner, which
  // balances uneven drives. Empty: measured if `measure_speeds` (about a second for each of several
  // directories, by aio::measure_path_speed), else equal.
  std::vector<double> speeds = {};
  bool measure_speeds = false;
  // Locks that the caller holds, for several stores on one directory. The store locks the other
  // directories itself: alone, or if `share_locks` together with other such stores of the process.
  std::vector<std::shared_ptr<DirectoryLock>> locks = {};
  bool share_locks = false;
  std::string name = "tiles";  // prefix of the segment files: "optimizer"
  std::uint64_t segment_bytes = std::uint64_t{64} << 20;  // minimum; a larger tile gets its own
  double spare_fraction = 0.0;  // space for second generations, as a share of the tiles (0 to 1)
  aio::Direct direct = aio::Direct::kAuto;
  bool checksums = true;  // off only for benchmarks that measure their cost
  // Reports removed files of a killed job, and files that work through the page cache.
  aio::LogCallback log = {};
};

class SPILLWAY_API TileStore : public Tier {
 public:
  // Takes the locks, checks the space and preallocates all segments. kNoSpace, with the arithmetic,
  // before a byte is written; kBusy if another job or store has a directory, a file has a segment's
  // name, or a store of this process has `name` there; kInvalid for bad options, and for tiles of
  // more than 2^63 - 1 bytes. No later write meets a full disk, except that of a tile that was
  // freed. `engine` must outlive the store. Reading a plane that was never written is kInvalid.
  // REQUIRES: each tile has at least one element.
  static Result<std::unique_ptr<TileStore>> create(aio::Engine& engine, const Layout& layout,
                                                   std::vector<std::uint64_t> tile_elements,
                                                   const TileStoreOptions& options);

  // Returns the generation of the present bytes. It grows with the first write after
  // `keep_generation`. No number is reused: after a roll-back the next one is larger than those
  // dropped.
  virtual std::uint32_t generation(TileId tile) const = 0;

  struct Place {
    std::string path;
    std::uint64_t offset = 0;  // bytes
    std::uint32_t generation = 0;
  };
  // Returns the place of the present bytes.
  virtual Place place(TileId tile) const = 0;

  // Forgets the tile's bytes and returns their space to the filesystem: as a hole in the file, if
  // the filesystem has holes (else the space stays the tile's). Reading the tile is then kInvalid.
  // Its next write allocates the space again before it moves a byte, and blocks for that; kNoSpace
  // with the arithmetic. Sealed bytes stay in their file; a sealed file with no tile left is
  // removed. Tiles that the last `seal` did not call rewritten must still not be written. Blocks.
  // Other tiles may be in use. REQUIRES: nothing kept of the tile, no transfer of it in flight.
  virtual void free(TileId tile) = 0;
  enum class Contents { kNone, kSomePlanes, kAllPlanes };
  // Tells how many planes of the tile have bytes. Does not block, nor do those below.
  virtual Contents contents(TileId tile) const = 0;
  // True if a Transfer of the tile was neither waited for nor dropped.
  virtual bool in_flight(TileId tile) const = 0;
  // Returns the precondition that a write of the planes would break now, or nullptr. For callers
  // that must not abort.
  virtual const char* why_not_writable(TileId tile, PlaneRange planes) const = 0;
  virtual bool has_checksums() const noexcept = 0;

  // Counters of each of TileStoreOptions::directories, in order.
  struct DirectoryStats {
    std::string path;
    double speed = 0;                // as given, or measured in bytes per second; 1 if equal
    std::uint64_t stored_bytes = 0;  // space for tiles, spare places included
    std::uint64_t read_bytes = 0;    // so far
    std::uint64_t written_bytes = 0;
  };
  virtual std::vector<DirectoryStats> directory_stats() const = 0;
};

}  // namespace spillway::swapper
