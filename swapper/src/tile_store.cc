#include <spillway/aio/check.h>
#include <spillway/aio/path_speed.h>
#include <spillway/swapper/tile_store.h>
#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "file_tile_store.h"

namespace spillway::swapper {
namespace {

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
  if (options.name.empty() ||
      options.name.find_first_of(std::string_view("/\n\0", 3)) != std::string::npos) {
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
      auto lock =
          options.share_locks ? DirectoryLock::share(directory) : DirectoryLock::acquire(directory);
      if (!lock) return tl::unexpected(std::move(lock.error()));
      const bool is_new = lock->use_count() == 1;  // else another store has reported it
      const std::size_t removed = (*lock)->leftovers_removed();
      if (is_new && removed > 0) {
        options.log(aio::LogLevel::kInfo, directory.string() + ": removed " +
                                              std::to_string(removed) +
                                              " files that a killed job left behind");
      }
      locks.push_back(std::move(*lock));
    }
  }
  return locks;
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
  auto names = StoreNames::take(*locks, options.name);
  if (!names) return tl::unexpected(std::move(names.error()));
  std::vector<DirectorySpace> directories;
  for (const std::filesystem::path& directory : options.directories) {
    // Its space is asked for again by a seal, which may follow a chdir().
    directories.push_back({.path = aio::path_from_root(directory).string()});
  }
  // After the locks: what a killed job left behind counts as free again.
  if (auto speeds = find_speeds(engine, options, directories); !speeds) {
    return tl::unexpected(std::move(speeds.error()));
  }
  auto files = std::make_shared<SegmentFiles>(engine, directories.size(), options.direct);
  auto stored = std::make_shared<StoredTiles>(layout, files, options.checksums);
  auto store = std::make_unique<FileTileStore>(
      std::move(tile_elements), std::move(stored),
      FileTileStore::Options{.locks = std::move(*locks),
                             .directories = std::move(directories),
                             .name = options.name,
                             .names = std::move(*names),
                             .segment_bytes = options.segment_bytes});
  if (auto made = store->make_places(options.spare_fraction); !made) {
    return tl::unexpected(std::move(made.error()));
  }
  for (const std::string& line : files->not_direct()) {
    options.log(aio::LogLevel::kWarning, line);
  }
  return store;
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
