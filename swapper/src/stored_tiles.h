// StoredTiles: places in segment files, their contents, and verified transfers to and from them.
//
// A place holds one generation of one tile, its checksums, and which of its planes were written.
// Ownership: the store and its Transfers share it, so a Transfer may outlive the store. Threads:
// any, on different places or planes; no call may run beside `add` or `remove`.
#pragma once

#include <spillway/swapper/tile_store.h>
#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "checksums.h"
#include "placement.h"
#include "segment_files.h"

namespace spillway::swapper {

class StoredTiles : public std::enable_shared_from_this<StoredTiles> {
 public:
  struct Owner {
    TileId tile = 0;
    std::uint32_t generation = 0;
  };

  enum class Verify { kYes, kNo };

  // Makes a set without places.
  StoredTiles(const Layout& layout, std::shared_ptr<SegmentFiles> files, bool checksums);

  // Adds an empty place; returns its number, which is stable until the place is removed. `hollow`:
  // it has no space yet.
  std::size_t add(const PlacedTile& at, bool hollow = false);
  // Removes a place; its number is reused. REQUIRES: no Transfer of it in flight.
  void remove(std::size_t place);

  const Layout& layout() const noexcept { return layout_; }
  SegmentFiles& files() noexcept { return *files_; }
  const SegmentFiles& files() const noexcept { return *files_; }
  // Returns a bound of the numbers; those of removed places have 0 elements.
  std::size_t place_count() const noexcept { return places_.size(); }
  std::uint64_t elements(std::size_t place) const { return places_[place].at.elements; }
  std::uint32_t segment(std::size_t place) const { return places_[place].at.segment; }
  // Returns the region of all planes.
  SegmentFiles::Region region(std::size_t place) const {
    return region(places_[place], layout_.all());
  }
  // Forgets the contents.
  void clear(std::size_t place) noexcept;
  // Returns the place's space to the filesystem, until its next write. False if that has no holes.
  bool release_space(std::size_t place) noexcept;
  // Takes it again, if it was released. kNoSpace with the arithmetic.
  Result<void> take_space(std::size_t place);
  bool hollow(std::size_t place) const noexcept { return spaces_[place].hollow; }
  // True if any plane was written; true if every plane was.
  bool written(std::size_t place) const noexcept;
  bool whole(std::size_t place) const noexcept;
  TileStore::Place place(std::size_t place) const;
  // True if a Transfer of the place was neither waited for nor dropped.
  bool under_way(std::size_t place) const noexcept { return transfers_[place] != 0; }
  std::uint64_t memory_bytes() const noexcept;

  const Owner& owner(std::size_t place) const { return places_[place].owner; }
  const TileChecksums& checksums(std::size_t place) const { return places_[place].checksums; }
  bool has_checksums() const noexcept { return checksums_; }

  // Assigns the place to `owner`. REQUIRES: a new owner's next write covers all planes.
  void start_generation(std::size_t place, Owner owner);
  using Sums = std::vector<std::vector<std::uint64_t>>;  // of each plane's blocks
  // Makes the place hold all planes, with the checksums of a saved tile.
  void restore(std::size_t place, Owner owner, const Sums& sums);
  Transfer read(std::size_t place, PlaneRange planes, pinned_pool::Lease lease,
                aio::Priority priority, Verify verify = Verify::kYes);
  // Takes the place's space first, if it was released. Hashes the planes, unless `sums` has the
  // values of their blocks (one vector per plane).
  Transfer write(std::size_t place, PlaneRange planes, pinned_pool::Lease lease,
                 const Sums* sums = nullptr);
  // Checks that the elements of the planes, which start at `data`, are those written last.
  Result<void> verify(std::size_t place, PlaneRange planes, ElementRange range,
                      const std::byte* data) const;
  // As above, with hashes of a range that is one block of each plane.
  Result<void> verify(std::size_t place, PlaneRange planes, ElementRange range,
                      std::span<const BlockHash> hashes) const;

 private:
  class FileTransfer;
  struct Stored {
    PlacedTile at;
    Owner owner;
    TileChecksums checksums;
    std::vector<std::uint8_t> written;  // of each plane; bytes, because each has its own thread
  };

  SegmentFiles::Region region(const Stored& stored, PlaneRange planes) const;
  // Formats "tile 12, plane exp_avg".
  std::string describe(const Stored& stored, PlaneRange planes) const;
  void record(Stored& stored, PlaneRange planes, std::byte* data, const Sums* sums);
  Error mismatch(const Stored& stored, std::uint32_t plane, std::size_t block) const;

  const Layout layout_;
  const std::shared_ptr<SegmentFiles> files_;
  const bool checksums_;
  std::deque<Stored> places_;                         // with stable addresses
  std::deque<std::atomic<std::uint32_t>> transfers_;  // in flight, of each place
  struct Space {
    Mutex mutex;  // for two threads that write different planes
    std::atomic<bool> hollow{false};
  };
  std::deque<Space> spaces_;       // of each place
  std::vector<std::size_t> free_;  // numbers of removed places
};

}  // namespace spillway::swapper
