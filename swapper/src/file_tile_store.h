// FileTileStore: the implementation of TileStore. It decides which place each tile has.
//
// A place holds one generation. A tile has one place, and a second one while a generation is kept.
// A tile in a sealed segment has a place reserved elsewhere for its next write; a place in a sealed
// segment is never free again. A freed tile keeps its place without the space of it; if that place
// is sealed, without its contents. Threads and ownership: as TileStore.
#pragma once

#include <spillway/aio/mutex.h>
#include <spillway/swapper/tile_store.h>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "placement.h"
#include "store_names.h"
#include "stored_tiles.h"

namespace spillway::swapper {

class FileTileStore final : public TileStore {
 public:
  struct Options {
    std::vector<std::shared_ptr<DirectoryLock>> locks;  // of each directory
    std::vector<DirectorySpace> directories;            // with their speeds
    std::string name;
    StoreNames names;  // given back once the files are removed
    std::uint64_t segment_bytes = 0;
  };
  FileTileStore(std::vector<std::uint64_t> tile_elements, std::shared_ptr<StoredTiles> stored,
                Options options);
  ~FileTileStore() override;

  // Makes the first places. Called once, before all else.
  Result<void> make_places(double spare_fraction);

  const char* name() const noexcept override { return "nvme"; }
  const Layout& layout() const noexcept override { return stored_->layout(); }
  std::uint32_t tile_count() const noexcept override {
    return static_cast<std::uint32_t>(tiles_.size());
  }
  std::uint64_t tile_elements(TileId tile) const override { return entry(tile).elements; }
  std::byte* resident(TileId, std::uint32_t) noexcept override { return nullptr; }
  Transfer read(TileId tile, PlaneRange planes, pinned_pool::Lease lease,
                aio::Priority priority) override;
  Transfer write(TileId tile, PlaneRange planes, pinned_pool::Lease lease) override;
  std::unique_ptr<RangeChecks> range_checks(TileId tile, PlaneRange planes) override;

  bool keeps_generations(TileId tile) const noexcept override;
  Result<void> keep_generation(TileId tile) override;
  void drop_kept(TileId tile) override;
  void roll_back(TileId tile) override;
  Result<void> seal(const std::vector<bool>& rewritten) override;
  std::optional<SealedTile> sealed(TileId tile) const override;

  std::uint32_t generation(TileId tile) const override { return place(tile).generation; }
  Place place(TileId tile) const override { return stored_->place(present_place(tile)); }
  void free(TileId tile) override;
  Contents contents(TileId tile) const override;
  bool in_flight(TileId tile) const override;
  const char* why_not_writable(TileId tile, PlaneRange planes) const override;
  bool has_checksums() const noexcept override { return stored_->has_checksums(); }
  std::vector<DirectoryStats> directory_stats() const override;
  TierStats stats() const noexcept override { return stored_->files().stats(); }
  std::uint64_t memory_bytes() const noexcept override { return stored_->memory_bytes(); }
  std::uint64_t storage_bytes() const noexcept override { return stored_->files().storage_bytes(); }

 private:
  struct Entry {
    std::uint64_t elements = 0;
    std::size_t place = 0;            // of the next write, unless it is sealed
    std::optional<std::size_t> kept;  // place of the kept generation
    bool moved = false;               // written since it was kept: `place` has the present bytes
    std::optional<std::size_t> reserved;  // of the next write, if `place` is sealed and none kept
    std::uint32_t last_generation = 0;
  };
  // The changes of a seal.
  struct Sealing {
    std::set<std::uint32_t> segments;
    std::vector<TileId> movers;           // tiles that need a place elsewhere
    std::vector<std::size_t> empty;       // unused places in those segments
    std::vector<std::uint64_t> elements;  // of the places to make: the movers', then spare ones
    std::vector<TileId> freed;            // movers that take no space before they are written
    std::vector<std::uint64_t> freed_elements;
  };
  struct NewPlaces {
    std::vector<std::size_t> places;
    std::vector<std::uint32_t> segments;
  };
  enum class Space { kNow, kLater };  // whether places have their space, or take it when written

  // True in a forked child: the places are the parent's.
  bool in_child() const noexcept { return !stored_->files().owner().is_here(); }
  const Entry& entry(TileId tile) const;
  Entry& entry(TileId tile) { return const_cast<Entry&>(std::as_const(*this).entry(tile)); }
  std::size_t begin_write(TileId tile, PlaneRange planes);
  StoredTiles::Owner next_owner(TileId tile) const;
  std::size_t present_place(TileId tile) const;
  bool in_sealed(std::size_t place) const;
  void check_idle(const Entry& tile_entry) const;
  static std::size_t& kept_place(Entry& tile_entry);
  void give_back(Entry& tile_entry, std::size_t place);
  std::size_t leave_sealed(std::size_t place);
  void check_transfer(TileId tile, PlaneRange planes, const pinned_pool::Lease& lease) const;

  Result<NewPlaces> add_places(const std::vector<std::uint64_t>& elements, double spare_fraction,
                               Space space = Space::kNow);
  void remove_unused_segments();
  Sealing plan_sealing(const std::vector<bool>& rewritten) const;
  Result<NewPlaces> seal_segments(const Sealing& sealing);
  void move_out(const Sealing& sealing, const NewPlaces& made);

  const std::shared_ptr<StoredTiles> stored_;  // shared with Transfers that outlive the store
  Options options_;
  std::uint64_t segments_made_ = 0;  // numbers their names
  std::vector<Entry> tiles_;  // each used by one thread at a time, as transfers of a tile are
  mutable Mutex spare_mutex_;
  // Free places by their elements.
  std::map<std::uint64_t, std::vector<std::size_t>> spare_ SPILLWAY_GUARDED_BY(spare_mutex_);
  // Tiles, present or kept, in each sealed segment.
  std::map<std::uint32_t, std::size_t> sealed_tiles_ SPILLWAY_GUARDED_BY(spare_mutex_);
};

// Updates the free bytes of each directory.
Result<void> measure_free_space(std::vector<DirectorySpace>& directories);

}  // namespace spillway::swapper
