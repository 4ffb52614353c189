// TileStream: read ahead, compute, write behind over a sequence of tiles.
//
// An Item is what one call of the compute function needs: parts of one or several tiers (a tile's
// weight plane here, its moments there). Parts that are resident are used in place; the others are
// read into Leases ahead of time and written back behind. How far ahead is decided by the pools:
// when no buffer is free the stream waits for its own oldest write (back-pressure), so K buffers
// bound the memory whatever the number of items. Compute runs on the calling thread, in order.
#pragma once

#include <spillway/aio/export.h>
#include <spillway/pinned_pool/pool.h>
#include <spillway/swapper/tier.h>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

namespace spillway::swapper {

enum class Access : std::uint8_t { kRead, kWrite, kReadWrite };

// Who compares what was read with its checksum, and hashes what will be written.
enum class Checksums : std::uint8_t {
  kDefault,    // the stream, on the calling thread, before and after the compute function
  kInCompute,  // the compute function, by PartView::verify and record, while the bytes are in cache
};

struct Part {
  Tier* tier = nullptr;
  TileId tile = 0;
  PlaneRange planes;
  Access access = Access::kRead;
  pinned_pool::Pool* pool = nullptr;  // where the buffer comes from; may be null when resident
  Checksums checksums = Checksums::kDefault;
};

using Item = std::vector<Part>;

// The planes of one part while the compute function runs.
class SPILLWAY_API PartView {
 public:
  // Address of a plane (its number in the Layout). REQUIRES: within the part's range.
  std::byte* plane(std::uint32_t plane) const;
  // The same as values, one an element. REQUIRES: an element of the plane takes sizeof(T) bytes.
  template <typename T>
  std::span<T> values(std::uint32_t plane) const {
    static_assert(std::is_trivially_copyable_v<T>, "a tile holds bytes that may be moved");
    return {reinterpret_cast<T*>(plane_of_elements(plane, sizeof(T))), elements_};
  }
  std::uint64_t elements() const noexcept { return elements_; }

  // With Checksums::kInCompute the compute function does what the stream does otherwise. Ranges are
  // [first, first + count): whole kRangeElements, or to the end of the tile. Any thread, different
  // ranges at a time. Both calls do nothing for parts that are resident, of tiers without
  // checksums, or of Checksums::kDefault.
  static constexpr std::uint64_t kRangeElements = swapper::kRangeElements;
  // Whether elements that were read are those written last, to be asked before they are used;
  // kCorrupt: they are not.
  Result<void> verify(std::uint64_t first, std::uint64_t count) const;
  // Says that the elements have the values to write. REQUIRES: once for every element of a written
  // part; after verify where it was read.
  void record(std::uint64_t first, std::uint64_t count) const;
  // Whether the compute function may hash the part's planes itself, by BlockHash, while it has them
  // in registers, and call these instead, with one hash for each plane, in order, of one range. So
  // verify comes when the range was computed on already: when it fails, what was computed of it is
  // worth nothing, and nothing of the item is written after the error is returned.
  bool takes_hashes() const noexcept { return checks_ != nullptr && checks_->takes_hashes(); }
  // Whether what was hashed of the range was written last. REQUIRES: takes_hashes().
  Result<void> verify(ElementRange range, std::span<const BlockHash> planes) const;
  // Says that the range has the values hashed. REQUIRES: takes_hashes(), and as above.
  void record(ElementRange range, std::span<const BlockHash> planes) const;

 private:
  friend class TileStream;
  std::byte* plane_of_elements(std::uint32_t plane, std::size_t element_bytes) const;

  const Part* part_ = nullptr;
  std::byte* base_ = nullptr;  // start of the Lease, or nullptr when resident
  RangeChecks* checks_ = nullptr;
  std::uint64_t elements_ = 0;
};

struct StreamStats {
  double seconds = 0;             // from the first start to the last end
  double compute_seconds = 0;     // in the compute function
  double read_wait_seconds = 0;   // compute waited for a read
  double write_wait_seconds = 0;  // compute waited for a buffer or for the last writes
  // The drive waited for compute: none of the stream's transfers was under way. 0 for a stream that
  // moves nothing to or from a drive.
  double drive_idle_seconds = 0;
};

class SPILLWAY_API TileStream {
 public:
  // Called for each item once its parts can be used. An error ends the run.
  using Compute = std::function<Result<void>(std::size_t item, std::span<const PartView> parts)>;
  // Called on the same thread, between two computes, when all that the item wrote is in its tiers.
  using Written = std::function<void(std::size_t item)>;

  // Items that become known while a run goes on: it lasts for as long as there are more. All calls
  // come from the thread of the run.
  class SPILLWAY_API Source {
   public:
    virtual ~Source() = default;
    // The number of the item to read ahead next; nothing when there is none now, and the stream
    // asks again a little later. With `wait` nothing else is left to do: blocks until there is one;
    // nothing then ends the run. `so_far`: of the run, without its waits for items.
    virtual std::optional<std::size_t> next(bool wait, const StreamStats& so_far) = 0;
    // Whether the item, which was named before all that are not computed yet, may be computed now.
    // With `wait` nothing else is left to do: blocks until it may.
    virtual bool ready(std::size_t /*number*/, bool /*wait*/) { return true; }
    // The item of that number. Stays where it is until all of it is written.
    virtual const Item& item(std::size_t number) const = 0;
  };

  // Runs all items in order; returns when everything written is in its tier. On an error: starts
  // nothing more, waits for what is in flight, returns the first error.
  // REQUIRES: an item's parts that share a pool fit into it together; a plane that is written is
  // in one part only.
  // When `compute` throws, what is in flight is abandoned (and ends safely).
  static Result<StreamStats> run(std::span<const Item> items, const Compute& compute,
                                 const Written& written = {});
  // The same with items in the order in which the source names them, which sees to it that a plane
  // that is written is not named again before all of its item is written.
  static Result<StreamStats> run(Source& source, const Compute& compute,
                                 const Written& written = {});

  // Called for each tile once its planes can be used.
  using Visit = std::function<void(TileId tile, const PartView& planes)>;
  // The common case of run: each tile of the tier once, in order, with all its planes.
  // REQUIRES: a buffer of the pool holds any one tile.
  static Result<StreamStats> for_each_tile(Tier& tier, Access access, pinned_pool::Pool& pool,
                                           const Visit& visit);

 private:
  class SPILLWAY_LOCAL Run;
};

}  // namespace spillway::swapper
