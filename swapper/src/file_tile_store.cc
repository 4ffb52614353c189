#include "file_tile_store.h"

#include <spillway/aio/check.h>
#include <spillway/aio/free_space.h>
#include <algorithm>
#include <cerrno>
#include <limits>

#include "file_range_checks.h"

namespace spillway::swapper {

FileTileStore::FileTileStore(std::vector<std::uint64_t> tile_elements,
                             std::shared_ptr<StoredTiles> stored, Options options)
    : stored_(std::move(stored)), options_(std::move(options)), tiles_(tile_elements.size()) {
  for (TileId tile = 0; tile < tiles_.size(); ++tile) tiles_[tile].elements = tile_elements[tile];
}

FileTileStore::~FileTileStore() { stored_->files().close(); }

Result<void> FileTileStore::make_places(double spare_fraction) {
  std::vector<std::uint64_t> elements;
  for (const Entry& tile : tiles_) elements.push_back(tile.elements);
  auto made = add_places(elements, spare_fraction);
  if (!made) return tl::unexpected(std::move(made.error()));
  for (TileId tile = 0; tile < tiles_.size(); ++tile) {
    tiles_[tile].place = made->places[tile];
    stored_->start_generation(tiles_[tile].place, {tile, 0});
  }
  const MutexLock guard(spare_mutex_);
  for (std::size_t i = tiles_.size(); i < made->places.size(); ++i) {
    spare_[stored_->elements(made->places[i])].push_back(made->places[i]);
  }
  return {};
}

Result<FileTileStore::NewPlaces> FileTileStore::add_places(
    const std::vector<std::uint64_t>& elements, double spare_fraction, Space space) {
  if (auto measured = measure_free_space(options_.directories); !measured) {
    return tl::unexpected(std::move(measured.error()));
  }
  std::vector<DirectorySpace> directories = options_.directories;
  if (space == Space::kLater) {
    for (DirectorySpace& directory : directories) {
      directory.free_bytes = std::numeric_limits<std::int64_t>::max() / directories.size();
    }
  }
  auto placement =
      place_tiles(layout(), elements, directories,
                  {.segment_bytes = options_.segment_bytes, .spare_fraction = spare_fraction});
  if (!placement) return tl::unexpected(std::move(placement.error()));
  std::vector<SegmentFiles::File> files;
  for (const Segment& segment : placement->segments) {
    files.push_back({.lock = options_.locks[segment.directory],
                     .name = DirectoryLock::kNamePrefix + options_.name + "-" +
                             std::to_string(segments_made_++) + DirectoryLock::kNameSuffix,
                     .size_bytes = segment.size_bytes,
                     .directory = segment.directory,
                     .sparse = space == Space::kLater});
  }
  auto segments = stored_->files().add(std::move(files));
  if (!segments) return tl::unexpected(std::move(segments.error()));
  NewPlaces made;
  for (PlacedTile place : placement->places) {
    place.segment = (*segments)[place.segment];
    made.places.push_back(stored_->add(place, space == Space::kLater));
  }
  made.segments = std::move(*segments);
  return made;
}

Transfer FileTileStore::read(TileId tile, PlaneRange planes, pinned_pool::Lease lease,
                             aio::Priority priority) {
  check_transfer(tile, planes, lease);
  return stored_->read(present_place(tile), planes, std::move(lease), priority);
}

Transfer FileTileStore::write(TileId tile, PlaneRange planes, pinned_pool::Lease lease) {
  check_transfer(tile, planes, lease);
  return stored_->write(begin_write(tile, planes), planes, std::move(lease));
}

std::unique_ptr<RangeChecks> FileTileStore::range_checks(TileId tile, PlaneRange planes) {
  if (!stored_->has_checksums() || in_child()) return nullptr;
  const std::size_t place = present_place(tile);
  return std::make_unique<FileRangeChecks>(FileRangeChecks::Use{
      .stored = stored_,
      .place = place,
      .planes = planes,
      .after = [this, tile] { return next_owner(tile); },
      .begin_write = [this, tile, planes] { return begin_write(tile, planes); }});
}

bool FileTileStore::keeps_generations(TileId tile) const noexcept {
  if (in_child()) return false;
  const MutexLock guard(spare_mutex_);
  return spare_.contains(entry(tile).elements);
}

Result<void> FileTileStore::keep_generation(TileId tile) {
  Entry& tile_entry = entry(tile);
  SPILLWAY_CHECK(!tile_entry.kept, "one generation of a tile is kept at a time");
  check_idle(tile_entry);
  if (in_child()) return tl::unexpected(stored_->files().owner().error("keep a generation"));
  // The place may become a spare one, and those have their space.
  if (auto taken = stored_->take_space(tile_entry.place); !taken) return taken;
  tile_entry.moved = false;
  if (tile_entry.reserved) {
    tile_entry.kept = std::exchange(tile_entry.place, *tile_entry.reserved);
    tile_entry.reserved.reset();
    return {};
  }
  const MutexLock guard(spare_mutex_);
  const auto spare = spare_.find(tile_entry.elements);
  if (spare == spare_.end() || spare->second.empty()) {
    return make_error(
        ErrorKind::kNoSpace, "keep a generation", stored_->place(tile_entry.place).path,
        "tile " + std::to_string(tile) + ": the room for second generations of " +
            std::to_string(tile_entry.elements) + " elements is used up; raise spare_fraction");
  }
  tile_entry.kept = std::exchange(tile_entry.place, spare->second.back());
  spare->second.pop_back();
  return {};
}

void FileTileStore::drop_kept(TileId tile) {
  Entry& tile_entry = entry(tile);
  check_idle(tile_entry);
  kept_place(tile_entry);
  if (in_child()) return;
  // Not written since: the kept bytes are still the present ones, the reserved place goes back.
  if (!tile_entry.moved) std::swap(kept_place(tile_entry), tile_entry.place);
  leave_sealed(kept_place(tile_entry));
  give_back(tile_entry, kept_place(tile_entry));
  tile_entry.kept.reset();
}

void FileTileStore::roll_back(TileId tile) {
  Entry& tile_entry = entry(tile);
  check_idle(tile_entry);
  const std::size_t kept = kept_place(tile_entry);
  if (in_child()) return;
  const std::size_t dropped = std::exchange(tile_entry.place, kept);
  give_back(tile_entry, dropped);
  tile_entry.kept.reset();
}

std::vector<TileStore::DirectoryStats> FileTileStore::directory_stats() const {
  std::vector<DirectoryStats> stats;
  for (std::size_t i = 0; i < options_.directories.size(); ++i) {
    const TierStats moved = stored_->files().stats(i);
    stats.push_back({.path = options_.directories[i].path,
                     .speed = options_.directories[i].speed,
                     .stored_bytes = stored_->files().storage_bytes(i),
                     .read_bytes = moved.read_bytes,
                     .written_bytes = moved.written_bytes});
  }
  return stats;
}

const FileTileStore::Entry& FileTileStore::entry(TileId tile) const {
  SPILLWAY_CHECK(tile < tiles_.size(), "no such tile");
  return tiles_[tile];
}

bool FileTileStore::in_sealed(std::size_t place) const {
  return stored_->files().is_sealed(stored_->segment(place));
}

const char* FileTileStore::why_not_writable(TileId tile, PlaneRange planes) const {
  const Entry& tile_entry = entry(tile);
  const bool sealed = !tile_entry.kept && in_sealed(tile_entry.place);
  if (!sealed && (!tile_entry.kept || tile_entry.moved)) return nullptr;
  if (planes.first != 0 || planes.count != layout().plane_count()) {
    return "the first write after keep_generation or seal covers all planes";
  }
  if (sealed && !tile_entry.reserved) return "a tile that is not to be written again is written";
  return nullptr;
}

// The place that a write of the planes goes to; a kept or sealed generation's bytes are left alone.
std::size_t FileTileStore::begin_write(TileId tile, PlaneRange planes) {
  Entry& tile_entry = entry(tile);
  const char* const why_not = why_not_writable(tile, planes);
  SPILLWAY_CHECK(why_not == nullptr, why_not);
  const bool sealed = !tile_entry.kept && in_sealed(tile_entry.place);
  if (!sealed && (!tile_entry.kept || tile_entry.moved)) return tile_entry.place;
  if (sealed) {
    leave_sealed(tile_entry.place);
    tile_entry.place = *std::exchange(tile_entry.reserved, std::nullopt);
  }
  tile_entry.moved = tile_entry.kept.has_value();
  stored_->start_generation(tile_entry.place, {tile, ++tile_entry.last_generation});
  return tile_entry.place;
}

// Counts a tile's place out of its sealed segment, if it is in one. Returns the tiles that are
// left in there.
std::size_t FileTileStore::leave_sealed(std::size_t place) {
  if (!in_sealed(place) || !stored_->written(place)) return 1;
  const MutexLock guard(spare_mutex_);
  return --sealed_tiles_.at(stored_->segment(place));
}

void FileTileStore::free(TileId tile) {
  Entry& tile_entry = entry(tile);
  SPILLWAY_CHECK(!tile_entry.kept, "nothing is kept of a tile that is freed");
  check_idle(tile_entry);
  if (in_child()) return;
  if (in_sealed(tile_entry.place)) {
    const std::size_t left = leave_sealed(tile_entry.place);
    if (left == 0) stored_->files().drop(stored_->segment(tile_entry.place));
    if (tile_entry.reserved) tile_entry.place = *std::exchange(tile_entry.reserved, std::nullopt);
  }
  stored_->clear(tile_entry.place);
  stored_->start_generation(tile_entry.place, {tile, ++tile_entry.last_generation});
  if (!in_sealed(tile_entry.place)) stored_->release_space(tile_entry.place);
}

TileStore::Contents FileTileStore::contents(TileId tile) const {
  const std::size_t place = present_place(tile);
  if (stored_->whole(place)) return Contents::kAllPlanes;
  return stored_->written(place) ? Contents::kSomePlanes : Contents::kNone;
}

bool FileTileStore::in_flight(TileId tile) const {
  const Entry& tile_entry = entry(tile);
  return stored_->under_way(tile_entry.place) ||
         (tile_entry.kept && stored_->under_way(*tile_entry.kept));
}

// Whose bytes the next write makes them.
StoredTiles::Owner FileTileStore::next_owner(TileId tile) const {
  const Entry& tile_entry = entry(tile);
  const bool goes_elsewhere = tile_entry.kept ? !tile_entry.moved : in_sealed(tile_entry.place);
  if (goes_elsewhere) return {tile, tile_entry.last_generation + 1};
  return stored_->owner(tile_entry.place);
}

std::size_t FileTileStore::present_place(TileId tile) const {
  const Entry& tile_entry = entry(tile);
  return tile_entry.kept && !tile_entry.moved ? *tile_entry.kept : tile_entry.place;
}

void FileTileStore::check_idle(const Entry& tile_entry) const {
  SPILLWAY_CHECK(!stored_->under_way(tile_entry.place) &&
                     !(tile_entry.kept && stored_->under_way(*tile_entry.kept)),
                 "a transfer of the tile is under way");
}

std::size_t& FileTileStore::kept_place(Entry& tile_entry) {
  SPILLWAY_CHECK(tile_entry.kept, "no generation of this tile is kept");
  return *tile_entry.kept;
}

// A place that the tile, which has its present one already, does not need any more.
void FileTileStore::give_back(Entry& tile_entry, std::size_t place) {
  if (in_sealed(place)) return;
  if (in_sealed(tile_entry.place)) {
    tile_entry.reserved = place;
    return;
  }
  const MutexLock guard(spare_mutex_);
  spare_[tile_entry.elements].push_back(place);
}

void FileTileStore::check_transfer(TileId tile, PlaneRange planes,
                                   const pinned_pool::Lease& lease) const {
  SPILLWAY_CHECK(planes.count > 0, "a transfer moves at least one plane");
  SPILLWAY_CHECK(layout().range_bytes(planes, entry(tile).elements) <= lease.capacity(),
                 "the planes exceed the buffer");
}

Result<void> measure_free_space(std::vector<DirectorySpace>& directories) {
  for (DirectorySpace& directory : directories) {
    const auto space = aio::free_space(directory.path);
    if (!space) return tl::unexpected(space.error());
    directory.device = space->filesystem;
    directory.project = space->project;
    directory.free_bytes = space->free_bytes;
    directory.device_free_bytes = space->filesystem_free_bytes;
  }
  return {};
}

}  // namespace spillway::swapper
