// TileStream: reads ahead, computes and writes behind over a sequence of tiles.
//
// An Item is the input of one call of the compute function: parts of one or several tiers (a tile's
// weight plane here, its moments there). Resident parts are used in place; the others are read into
// Leases ahead of time and written afterwards. The pools decide how far ahead: if no buffer is
// free, the stream waits for its own oldest write (back-pressure), so K buffers bound the memory,
// whatever the number of items. Threads: the compute function runs on the calling thread, in order.
// Ownership: tiers and pools outlive the run.
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

// Who verifies the checksums of the bytes read, and hashes the bytes to write.
enum class Checksums : std::uint8_t {
  kDefault,    // the stream, on the calling thread, before and after the compute function
  kInCompute,  // the compute function, by PartView::verify and record, with the bytes in cache
};

struct Part {
  Tier* tier = nullptr;
  TileId tile = 0;
  PlaneRange planes;
  Access access = Access::kRead;
  pinned_pool::Pool* pool = nullptr;  // lends the buffer; may be null if resident
  Checksums checksums = Checksums::kDefault;
};

using Item = std::vector<Part>;

// PartView: the planes of one part, valid while the compute function runs.
class SPILLWAY_API PartView {
 public:
  // Returns the address of a plane, by its number in the Layout. REQUIRES: within the part's range.
  std::byte* plane(std::uint32_t plane) const;
  // Returns a plane as values. REQUIRES: each element of the plane takes sizeof(T) bytes.
  template <typename T>
  std::span<T> values(std::uint32_t plane) const {
    static_assert(std::is_trivially_copyable_v<T>, "a tile holds bytes that may be moved");
    return {reinterpret_cast<T*>(plane_of_elements(plane, sizeof(T))), elements_};
  }
  std::uint64_t elements() const noexcept { return elements_; }

  // With Checksums::kInCompute the compute function calls `verify` and `record` itself. A range is
  // [first, first + count), a multiple of kRangeElements or up to the end of the tile. Any thread,
  // on different ranges. Both do nothing for resident parts, for tiers without checksums, and with
  // Checksums::kDefault.
  static constexpr std::uint64_t kRangeElements = swapper::kRangeElements;
  // Checks that the elements read are those written last; kCorrupt if not. Call it before they are
  // used.
  Result<void> verify(std::uint64_t first, std::uint64_t count) const;
  // Records the elements as those to write. REQUIRES: once for every element of a written part;
  // after `verify`, if it was read.
  void record(std::uint64_t first, std::uint64_t count) const;
  // True if compute may hash the planes itself, while it has them in registers, and pass one
  // BlockHash per plane, in order, to the overloads below. `verify` then follows the computation:
  // if it fails, the results are invalid, and nothing of the item is written once compute has
  // returned the error.
  bool takes_hashes() const noexcept { return checks_ != nullptr && checks_->takes_hashes(); }
  // Checks that the hashed range is the one written last. REQUIRES: takes_hashes().
  Result<void> verify(ElementRange range, std::span<const BlockHash> planes) const;
  // Records the hashed range as the one to write. REQUIRES: takes_hashes(), and as above.
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
  double seconds = 0;             // of the whole run
  double compute_seconds = 0;     // in the compute function
  double read_wait_seconds = 0;   // compute waited for a read
  double write_wait_seconds = 0;  // compute waited for a buffer or for the last writes
  // The drive waited for compute: no transfer of the stream was in flight. 0 for a stream without
  // transfers to or from a drive.
  double drive_idle_seconds = 0;
};

class SPILLWAY_API TileStream {
 public:
  // Called for each item once its parts are available. An error ends the run.
  using Compute = std::function<Result<void>(std::size_t item, std::span<const PartView> parts)>;
  // Called on the same thread, between two computes, once all writes of the item are in its tiers.
  using Written = std::function<void(std::size_t item)>;

  // Source: items that become known during a run, which lasts as long as there are more. All calls
  // come from the thread of the run.
  class SPILLWAY_API Source {
   public:
    virtual ~Source() = default;
    // Returns the number of the next item to read ahead, or nothing if there is none yet: the
    // stream then asks again later. With `wait` the stream has nothing else to do: the call blocks
    // until there is an item, and nothing ends the run. `so_far` excludes waits for items.
    virtual std::optional<std::size_t> next(bool wait, const StreamStats& so_far) = 0;
    // True if the oldest item that is not computed yet may be computed now. With `wait` the stream
    // has nothing else to do: the call blocks until it may.
    virtual bool ready(std::size_t /*number*/, bool /*wait*/) { return true; }
    // Returns an item by its number. Its address is stable until all of it is written.
    virtual const Item& item(std::size_t number) const = 0;
  };

  // Runs all items in order; returns when all writes are in their tiers. On an error it starts
  // nothing more, waits for the transfers in flight and returns the first error. If `compute`
  // throws, the transfers in flight are abandoned and end safely. REQUIRES: the parts of an item
  // that share a pool fit into it together; a written plane is in one part only.
  static Result<StreamStats> run(std::span<const Item> items, const Compute& compute,
                                 const Written& written = {});
  // As above, with the items of `source`, in its order. REQUIRES: the source does not name a
  // written plane again before its item is written.
  static Result<StreamStats> run(Source& source, const Compute& compute,
                                 const Written& written = {});

  // Called for each tile once its planes are available.
  using Visit = std::function<void(TileId tile, const PartView& planes)>;
  // Runs over each tile of the tier once, in order, with all its planes.
  // REQUIRES: a buffer of the pool holds any one tile.
  static Result<StreamStats> for_each_tile(Tier& tier, Access access, pinned_pool::Pool& pool,
                                           const Visit& visit);

 private:
  class SPILLWAY_LOCAL Run;
};

}  // namespace spillway::swapper
