// StoredTiles: places in segment files, what lies in each, and verified transfers to and from it.
//
// A place holds one generation of one tile, with its checksums and which planes were ever written.
// Shared by the store and its Transfers, so that a Transfer that outlives the store is safe.
// Threads: different planes, and different places, may be used at the same time; add and remove
// alone.
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

  // Without places.
  StoredTiles(const Layout& layout, std::shared_ptr<SegmentFiles> files, bool checksums);

  // A place that holds nothing. Says its number, under which it stays until it is removed.
  std::size_t add(const PlacedTile& at);
  // Its number comes again. REQUIRES: no Transfer of it is under way.
  void remove(std::size_t place);

  const Layout& layout() const noexcept { return layout_; }
  SegmentFiles& files() noexcept { return *files_; }
  const SegmentFiles& files() const noexcept { return *files_; }
  // Numbers are below it; some may be of places that were removed, whose elements are 0.
  std::size_t place_count() const noexcept { return places_.size(); }
  std::uint64_t elements(std::size_t place) const { return places_[place].at.elements; }
  std::uint32_t segment(std::size_t place) const { return places_[place].at.segment; }
  // Of all planes.
  SegmentFiles::Region region(std::size_t place) const {
    return region(places_[place], layout_.all());
  }
  // Whether any, or each, of its planes was written.
  bool written(std::size_t place) const noexcept;
  bool whole(std::size_t place) const noexcept;
  TileStore::Place place(std::size_t place) const;
  // Whether a Transfer of the place was neither waited for nor dropped.
  bool under_way(std::size_t place) const noexcept { return transfers_[place] != 0; }
  std::uint64_t memory_bytes() const noexcept;

  const Owner& owner(std::size_t place) const { return places_[place].owner; }
  const TileChecksums& checksums(std::size_t place) const { return places_[place].checksums; }
  bool has_checksums() const noexcept { return checksums_; }

  // From here on the place belongs to `owner`, who writes all planes next when it had another.
  void start_generation(std::size_t place, Owner owner);
  Transfer read(std::size_t place, PlaneRange planes, pinned_pool::Lease lease,
                aio::Priority priority, Verify verify = Verify::kYes);
  // Hashes the planes first, or takes the values of their blocks (one vector a plane) when given.
  using Sums = std::vector<std::vector<std::uint64_t>>;
  Transfer write(std::size_t place, PlaneRange planes, pinned_pool::Lease lease,
                 const Sums* sums = nullptr);
  // Whether the elements of the planes, which start at `data`, are those written last.
  Result<void> verify(std::size_t place, PlaneRange planes, ElementRange range,
                      const std::byte* data) const;
  // The same of what was hashed of a range that is one block of each of the planes.
  Result<void> verify(std::size_t place, PlaneRange planes, ElementRange range,
                      std::span<const BlockHash> hashes) const;

 private:
  class FileTransfer;
  struct Stored {
    PlacedTile at;
    Owner owner;
    TileChecksums checksums;
    std::vector<std::uint8_t> written;  // of each plane; bytes, as planes have their own threads
  };

  SegmentFiles::Region region(const Stored& stored, PlaneRange planes) const;
  // "tile 12, plane exp_avg"
  std::string describe(const Stored& stored, PlaneRange planes) const;
  void record(Stored& stored, PlaneRange planes, std::byte* data, const Sums* sums);
  Error mismatch(const Stored& stored, std::uint32_t plane, std::size_t block) const;

  const Layout layout_;
  const std::shared_ptr<SegmentFiles> files_;
  const bool checksums_;
  std::deque<Stored> places_;                         // stay where they are
  std::deque<std::atomic<std::uint32_t>> transfers_;  // under way, of each place
  std::vector<std::size_t> free_;                     // numbers of those that were removed
};

}  // namespace spillway::swapper
