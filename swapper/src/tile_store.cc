#include <sys/stat.h>
#include <sys/statvfs.h>

#include <spillway/aio/check.h>
#include <spillway/aio/path_speed.h>
#include <spillway/swapper/tile_store.h>
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <map>
#include <mutex>
#include <utility>

#include "file_range_checks.h"
#include "placement.h"
#include "stored_tiles.h"

namespace spillway::swapper {
namespace {

class FileTileStore final : public TileStore {
 public:
  FileTileStore(std::vector<std::uint64_t> tile_elements, std::shared_ptr<StoredTiles> stored,
                std::vector<DirectorySpace> directories)
      : stored_(std::move(stored)),
        directories_(std::move(directories)),
        tiles_(tile_elements.size()) {
    for (TileId tile = 0; tile < tiles_.size(); ++tile) {
      tiles_[tile].elements = tile_elements[tile];
      tiles_[tile].place = tile;
      stored_->start_generation(tile, {tile, 0});
    }
    for (std::size_t place = tiles_.size(); place < stored_->place_count(); ++place) {
      spare_[stored_->elements(place)].push_back(place);
    }
  }
  ~FileTileStore() override { stored_->files().close(); }

  const char* name() const noexcept override { return "nvme"; }
  const Layout& layout() const noexcept override { return stored_->layout(); }
  std::uint32_t tile_count() const noexcept override {
    return static_cast<std::uint32_t>(tiles_.size());
  }
  std::uint64_t tile_elements(TileId tile) const override { return entry(tile).elements; }
  std::byte* resident(TileId, std::uint32_t) noexcept override { return nullptr; }

  Transfer read(TileId tile, PlaneRange planes, pinned_pool::Lease lease,
                aio::Priority priority) override {
    check_transfer(tile, planes, lease);
    return stored_->read(present_place(tile), planes, std::move(lease), priority);
  }

  Transfer write(TileId tile, PlaneRange planes, pinned_pool::Lease lease) override {
    check_transfer(tile, planes, lease);
    return stored_->write(begin_write(tile, planes), planes, std::move(lease));
  }

  std::unique_ptr<RangeChecks> range_checks(TileId tile, PlaneRange planes) override {
    if (!stored_->has_checksums()) return nullptr;
    const std::size_t place = present_place(tile);
    return std::make_unique<FileRangeChecks>(FileRangeChecks::Use{
        .stored = stored_,
        .place = place,
        .planes = planes,
        .after = [this, tile] { return next_owner(tile); },
        .begin_write = [this, tile, planes] { return begin_write(tile, planes); }});
  }

  bool keeps_generations(TileId tile) const noexcept override {
    const std::lock_guard guard(spare_mutex_);
    return spare_.contains(entry(tile).elements);
  }

  Result<void> keep_generation(TileId tile) override {
    Entry& tile_entry = entry(tile);
    SPILLWAY_CHECK(!tile_entry.kept, "one generation of a tile is kept at a time");
    check_idle(tile_entry);
    const std::lock_guard guard(spare_mutex_);
    const auto spare = spare_.find(tile_entry.elements);
    if (spare == spare_.end() || spare->second.empty()) {
      return make_error(
          ErrorKind::kNoSpace, "keep a generation", stored_->place(tile_entry.place).path,
          "tile " + std::to_string(tile) + ": the room for second generations of " +
              std::to_string(tile_entry.elements) + " elements is used up; raise spare_fraction");
    }
    tile_entry.kept = std::exchange(tile_entry.place, spare->second.back());
    tile_entry.moved = false;
    spare->second.pop_back();
    return {};
  }

  void drop_kept(TileId tile) override {
    Entry& tile_entry = entry(tile);
    check_idle(tile_entry);
    // Not written since: the kept bytes are still the present ones, the reserved place goes back.
    if (!tile_entry.moved) std::swap(kept_place(tile_entry), tile_entry.place);
    give_back(tile_entry, kept_place(tile_entry));
    tile_entry.kept.reset();
  }

  void roll_back(TileId tile) override {
    Entry& tile_entry = entry(tile);
    check_idle(tile_entry);
    const std::size_t dropped = std::exchange(tile_entry.place, kept_place(tile_entry));
    give_back(tile_entry, dropped);
    tile_entry.kept.reset();
  }

  std::uint32_t generation(TileId tile) const override { return place(tile).generation; }
  Place place(TileId tile) const override { return stored_->place(present_place(tile)); }

  std::vector<DirectoryStats> directory_stats() const override {
    std::vector<DirectoryStats> stats;
    for (std::size_t i = 0; i < directories_.size(); ++i) {
      const TierStats moved = stored_->files().stats(i);
      stats.push_back({.path = directories_[i].path,
                       .speed = directories_[i].speed,
                       .stored_bytes = stored_->files().storage_bytes(i),
                       .read_bytes = moved.read_bytes,
                       .written_bytes = moved.written_bytes});
    }
    return stats;
  }

  TierStats stats() const noexcept override { return stored_->files().stats(); }
  std::uint64_t memory_bytes() const noexcept override { return stored_->memory_bytes(); }
  std::uint64_t storage_bytes() const noexcept override { return stored_->files().storage_bytes(); }

 private:
  struct Entry {
    std::uint64_t elements = 0;
    std::size_t place = 0;            // where writes go
    std::optional<std::size_t> kept;  // place of the generation to keep
    bool moved = false;               // written since it was kept: `place` has the present bytes
    std::uint32_t last_generation = 0;
  };

  const Entry& entry(TileId tile) const {
    SPILLWAY_CHECK(tile < tiles_.size(), "no such tile");
    return tiles_[tile];
  }
  Entry& entry(TileId tile) { return const_cast<Entry&>(std::as_const(*this).entry(tile)); }

  // The place that a write of the planes goes to; a kept generation's bytes are left alone.
  std::size_t begin_write(TileId tile, PlaneRange planes) {
    Entry& tile_entry = entry(tile);
    if (tile_entry.kept && !tile_entry.moved) {
      SPILLWAY_CHECK(planes.first == 0 && planes.count == layout().plane_count(),
                     "the first write after keep_generation covers all planes");
      tile_entry.moved = true;
      stored_->start_generation(tile_entry.place, {tile, ++tile_entry.last_generation});
    }
    return tile_entry.place;
  }
  // Whose bytes the next write makes them.
  StoredTiles::Owner next_owner(TileId tile) const {
    const Entry& tile_entry = entry(tile);
    if (tile_entry.kept && !tile_entry.moved) return {tile, tile_entry.last_generation + 1};
    return stored_->owner(tile_entry.place);
  }
  std::size_t present_place(TileId tile) const {
    const Entry& tile_entry = entry(tile);
    return tile_entry.kept && !tile_entry.moved ? *tile_entry.kept : tile_entry.place;
  }
  void check_idle(const Entry& tile_entry) const {
    SPILLWAY_CHECK(!stored_->under_way(tile_entry.place) &&
                       !(tile_entry.kept && stored_->under_way(*tile_entry.kept)),
                   "a transfer of the tile is under way");
  }
  static std::size_t& kept_place(Entry& tile_entry) {
    SPILLWAY_CHECK(tile_entry.kept, "no generation of this tile is kept");
    return *tile_entry.kept;
  }
  void give_back(const Entry& tile_entry, std::size_t place) {
    const std::lock_guard guard(spare_mutex_);
    spare_[tile_entry.elements].push_back(place);
  }
  void check_transfer(TileId tile, PlaneRange planes, const pinned_pool::Lease& lease) const {
    SPILLWAY_CHECK(planes.count > 0, "a transfer moves at least one plane");
    SPILLWAY_CHECK(layout().range_bytes(planes, entry(tile).elements) <= lease.capacity(),
                   "the planes exceed the buffer");
  }

  const std::shared_ptr<StoredTiles> stored_;  // shared with Transfers that outlive the store
  const std::vector<DirectorySpace> directories_;
  std::vector<Entry> tiles_;  // each used by one thread at a time, as transfers of a tile are
  mutable std::mutex spare_mutex_;
  std::map<std::uint64_t, std::vector<std::size_t>> spare_;  // free places by their elements
};

Result<void> validate(const TileStoreOptions& options) {
  const auto invalid = [](const std::string& detail) {
    return make_error(ErrorKind::kInvalid, "create a tile store", "", detail);
  };
  if (options.directories.empty()) return invalid("directories: at least one is needed");
  if (options.segment_bytes == 0) return invalid("segment_bytes: must be more than 0");
  if (!(options.spare_fraction >= 0.0 && options.spare_fraction <= 1.0)) {
    return invalid("spare_fraction: must be from 0 to 1");
  }
  const bool positive = std::ranges::all_of(
      options.speeds, [](double speed) { return std::isfinite(speed) && speed > 0; });
  if (!positive ||
      (!options.speeds.empty() && options.speeds.size() != options.directories.size())) {
    return invalid("speeds: must be positive, one for each directory");
  }
  if (options.name.empty() || options.name.find_first_of("/\n") != std::string::npos) {
    return invalid("name: must be part of a file name");
  }
  return {};
}

// The caller's lock on each directory, or one taken here.
Result<std::vector<std::shared_ptr<DirectoryLock>>> lock_directories(
    const TileStoreOptions& options) {
  std::vector<std::shared_ptr<DirectoryLock>> locks;
  for (const std::filesystem::path& directory : options.directories) {
    const auto held = [&](const std::shared_ptr<DirectoryLock>& lock) {
      std::error_code ignored;
      return std::filesystem::equivalent(lock->directory(), directory, ignored);
    };
    if (const auto it = std::ranges::find_if(options.locks, held); it != options.locks.end()) {
      locks.push_back(*it);
    } else if (const auto twice = std::ranges::find_if(locks, held); twice != locks.end()) {
      locks.push_back(*twice);
    } else {
      auto lock = DirectoryLock::acquire(directory);
      if (!lock) return tl::unexpected(std::move(lock.error()));
      if (const std::size_t removed = (*lock)->leftovers_removed(); removed > 0) {
        options.log(aio::LogLevel::kInfo, directory.string() + ": removed " +
                                              std::to_string(removed) +
                                              " files that a killed job left behind");
      }
      locks.push_back(std::move(*lock));
    }
  }
  return locks;
}

Result<std::vector<DirectorySpace>> free_space(const TileStoreOptions& options) {
  std::vector<DirectorySpace> spaces;
  for (const std::filesystem::path& directory : options.directories) {
    struct statvfs filesystem {};
    struct stat status {};
    if (::statvfs(directory.c_str(), &filesystem) != 0 || ::stat(directory.c_str(), &status) != 0) {
      return errno_error("ask for free space", directory.string(), errno);
    }
    spaces.push_back({.path = directory.string(),
                      .device = status.st_dev,
                      .free_bytes = std::uint64_t{filesystem.f_bavail} * filesystem.f_frsize});
  }
  return spaces;
}

// Given, measured, or 1 each.
Result<void> find_speeds(aio::Engine& engine, const TileStoreOptions& options,
                         std::vector<DirectorySpace>& directories) {
  for (std::size_t i = 0; i < directories.size(); ++i) {
    if (!options.speeds.empty()) {
      directories[i].speed = options.speeds[i];
    } else if (options.measure_speeds && directories.size() > 1) {
      auto speed = aio::measure_path_speed(engine, directories[i].path);
      if (!speed) return tl::unexpected(std::move(speed.error()));
      directories[i].speed = speed->mixed_bytes_per_second();
    }
  }
  return {};
}

Result<std::unique_ptr<TileStore>> make_store(aio::Engine& engine, const Layout& layout,
                                              std::vector<std::uint64_t> tile_elements,
                                              const TileStoreOptions& options) {
  for (const std::uint64_t elements : tile_elements) {
    SPILLWAY_CHECK(elements > 0, "a tile has at least one element");
  }
  if (auto valid = validate(options); !valid) return tl::unexpected(std::move(valid.error()));
  auto locks = lock_directories(options);
  if (!locks) return tl::unexpected(std::move(locks.error()));
  // After the locks: what a killed job left behind counts as free again.
  auto spaces = free_space(options);
  if (!spaces) return tl::unexpected(std::move(spaces.error()));
  auto speeds = find_speeds(engine, options, *spaces);
  if (!speeds) return tl::unexpected(std::move(speeds.error()));
  auto placement = place_tiles(
      layout, tile_elements, *spaces,
      {.segment_bytes = options.segment_bytes, .spare_fraction = options.spare_fraction});
  if (!placement) return tl::unexpected(std::move(placement.error()));

  std::vector<SegmentFiles::File> files;
  for (const Segment& segment : placement->segments) {
    files.push_back(
        {.lock = (*locks)[segment.directory],
         .name = "spillway-" + options.name + "-" + std::to_string(files.size()) + ".seg",
         .size_bytes = segment.size_bytes,
         .directory = segment.directory});
  }
  auto opened = SegmentFiles::create(engine, std::move(files), options.direct);
  if (!opened) return tl::unexpected(std::move(opened.error()));
  for (const std::string& line : (*opened)->not_direct()) {
    options.log(aio::LogLevel::kWarning, line);
  }
  auto stored = std::make_shared<StoredTiles>(layout, std::move(*opened), placement->places,
                                              options.checksums);
  return std::make_unique<FileTileStore>(std::move(tile_elements), std::move(stored),
                                         std::move(*spaces));
}

}  // namespace

Result<std::unique_ptr<TileStore>> TileStore::create(aio::Engine& engine, const Layout& layout,
                                                     std::vector<std::uint64_t> tile_elements,
                                                     const TileStoreOptions& options) {
  return or_no_memory("make a store", [&] {
    return make_store(engine, layout, std::move(tile_elements), options);
  });
}

}  // namespace spillway::swapper
