// save_tiles: seals a store and links or copies what is sealed.
#include <sys/stat.h>

#include <spillway/aio/check.h>
#include <spillway/swapper/saved_tiles.h>
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "save_directory.h"
#include "saved_manifest.h"

namespace spillway::swapper {
namespace {

constexpr const char* kWhat = "save tiles";

// The tiles to save; kInvalid if one has not all its bytes.
Result<std::vector<TileId>> choose(const TileStore& store, const std::vector<bool>& wanted,
                                   const std::string& path) {
  std::vector<TileId> tiles;
  for (TileId tile = 0; tile < store.tile_count(); ++tile) {
    if (!wanted.empty() && !wanted[tile]) continue;
    const TileStore::Contents contents = store.contents(tile);
    if (contents == TileStore::Contents::kNone && wanted.empty()) continue;
    if (contents != TileStore::Contents::kAllPlanes) {
      return make_error(ErrorKind::kInvalid, kWhat, path,
                        "tile " + std::to_string(tile) +
                            (contents == TileStore::Contents::kNone
                                 ? " was never written, or was freed"
                                 : " has bytes of some planes only: write all, or free it"));
    }
    tiles.push_back(tile);
  }
  return tiles;
}

class Saving {
 public:
  Saving(TileStore& store, SaveDirectory& to) : store_(store), to_(to) {
    manifest_.planes = store.layout().planes();
    for (TileId tile = 0; tile < store.tile_count(); ++tile) {
      manifest_.tile_elements.push_back(store.tile_elements(tile));
    }
  }

  // Checks, before anything is sealed, that what cannot be linked fits.
  Result<void> check_space(const std::vector<TileId>& tiles) const {
    const bool links = to_.has_links();
    std::map<std::string, bool> same_device;  // by segment
    std::uint64_t bytes = 0;
    for (const TileId tile : tiles) {
      const std::string path = store_.place(tile).path;
      const auto known = same_device.find(path);
      bool same = false;
      if (known == same_device.end()) {
        struct stat status {};
        // A path that leads nowhere after a chdir: the link, which goes by descriptor, will tell.
        same = links && (::stat(path.c_str(), &status) != 0 || status.st_dev == to_.device());
        same_device[path] = same;
      } else {
        same = known->second;
      }
      if (!same) bytes += tile_bytes(tile);
    }
    return to_.check_space(bytes);
  }

  // REQUIRES: the store is sealed.
  Result<void> save(const std::vector<TileId>& tiles) {
    std::map<SealedSegment*, std::vector<TileId>> by_segment;
    std::vector<std::shared_ptr<SealedSegment>> segments;  // in the order of their tiles
    for (const TileId tile : tiles) {
      auto sealed = store_.sealed(tile);
      SPILLWAY_CHECK(sealed, "a tile with bytes in all planes is sealed");
      auto& of_segment = by_segment[sealed->segment.get()];
      if (of_segment.empty()) segments.push_back(sealed->segment);
      of_segment.push_back(tile);
    }
    for (const auto& segment : segments) {
      if (auto saved = save_segment(*segment, by_segment[segment.get()]); !saved) return saved;
    }
    std::ranges::sort(manifest_.tiles, {}, &SavedManifest::Tile::tile);
    return write_manifest();
  }

 private:
  std::uint64_t tile_bytes(TileId tile) const {
    return store_.layout().tile_bytes(store_.tile_elements(tile));
  }

  Result<void> save_segment(SealedSegment& segment, const std::vector<TileId>& tiles) {
    const auto number = static_cast<std::uint32_t>(manifest_.file_bytes.size());
    auto linked = segment.link(to_.fd(), saved_segment_name(number));
    if (!linked) {
      if (linked.error().kind != ErrorKind::kUnsupported) return linked;
      return copy(number, tiles);
    }
    manifest_.file_bytes.push_back(segment.size_bytes());
    for (const TileId tile : tiles) add(number, tile, store_.sealed(tile)->offset);
    return segment.sync();
  }

  // Only the tiles, one after another. Reading them verifies them.
  Result<void> copy(std::uint32_t number, const std::vector<TileId>& tiles) {
    std::uint64_t size_bytes = 0;
    for (const TileId tile : tiles) size_bytes += tile_bytes(tile);
    if (auto fits = to_.check_space(size_bytes); !fits) return fits;
    auto file = to_.create_file(saved_segment_name(number), size_bytes);
    if (!file) return tl::unexpected(std::move(file.error()));
    manifest_.file_bytes.push_back(size_bytes);
    std::uint64_t offset = 0;
    for (const TileId tile : tiles) {
      const std::uint64_t bytes = tile_bytes(tile);
      auto read = store_.read(tile, store_.layout().all(),
                              pinned_pool::Lease(aio::Buffer::allocate(bytes)));
      auto lease = read.wait();
      if (!lease) return tl::unexpected(std::move(lease.error()));
      if (auto written = file->write({lease->data(), bytes}, offset); !written) return written;
      add(number, tile, offset);
      offset += bytes;
    }
    return file->sync();
  }

  void add(std::uint32_t file, TileId tile, std::uint64_t offset) {
    const SealedTile sealed = *store_.sealed(tile);
    SPILLWAY_CHECK(sealed.tile == tile, "a store's tiles have their own numbers in checksums");
    SavedManifest::Tile saved{
        .tile = tile, .file = file, .offset = offset, .generation = sealed.generation, .sums = {}};
    for (const SealedTile::PlaneSums& plane : sealed.planes) saved.sums.push_back(plane.values);
    manifest_.tiles.push_back(std::move(saved));
  }

  Result<void> write_manifest() {
    const std::string text = encode(manifest_);
    auto file = to_.create_file(kSavedManifestName, text.size());
    if (!file) return tl::unexpected(std::move(file.error()));
    if (auto written = file->write(std::as_bytes(std::span(text)), 0); !written) return written;
    return file->sync();
  }

  TileStore& store_;
  SaveDirectory& to_;
  SavedManifest manifest_;
};

Result<void> save(TileStore& store, const std::filesystem::path& directory,
                  const SaveOptions& options) {
  const auto one_each = [&](const std::vector<bool>& entries) {
    return entries.empty() || entries.size() == store.tile_count();
  };
  SPILLWAY_CHECK(one_each(options.tiles), "one entry for each tile, or none");
  SPILLWAY_CHECK(one_each(options.rewritten), "one entry for each tile, or none");
  if (!store.has_checksums()) {
    return make_error(ErrorKind::kUnsupported, kWhat, directory.string(),
                      "the store has no checksums: nothing that is read later could be verified");
  }
  auto tiles = choose(store, options.tiles, directory.string());
  if (!tiles) return tl::unexpected(std::move(tiles.error()));
  auto made = SaveDirectory::create(directory);
  if (!made) return tl::unexpected(std::move(made.error()));
  Saving saving(store, *made);
  if (auto fits = saving.check_space(*tiles); !fits) return fits;
  const bool all = options.rewritten.empty();
  auto sealed = store.seal(all ? std::vector<bool>(store.tile_count(), true) : options.rewritten);
  if (!sealed) return sealed;
  if (auto saved = saving.save(*tiles); !saved) return saved;
  return made->finish();
}

}  // namespace

Result<void> save_tiles(TileStore& store, const std::filesystem::path& directory,
                        const SaveOptions& options) {
  return or_no_memory("save tiles", [&] { return save(store, directory, options); });
}

}  // namespace spillway::swapper
