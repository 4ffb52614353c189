#include <fcntl.h>
#include <sys/stat.h>

#include <spillway/aio/check.h>
#include <spillway/swapper/saved_tiles.h>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "descriptor.h"
#include "saved_manifest.h"
#include "stored_tiles.h"

namespace spillway::swapper {
namespace {

class SavedFiles final : public SavedTiles {
 public:
  SavedFiles(std::string path, std::vector<std::uint64_t> tile_elements,
             std::shared_ptr<StoredTiles> stored)
      : path_(std::move(path)),
        tile_elements_(std::move(tile_elements)),
        stored_(std::move(stored)),
        places_(tile_elements_.size()) {}
  ~SavedFiles() override { stored_->files().close(); }

  void add(const SavedManifest::Tile& tile, std::uint32_t segment) {
    const std::size_t place = stored_->add(
        {.segment = segment, .offset = tile.offset, .elements = tile_elements_[tile.tile]});
    stored_->restore(place, {tile.tile, tile.generation}, tile.sums);
    places_[tile.tile] = place;
  }

  bool contains(TileId tile) const override { return place(tile).has_value(); }

  const char* name() const noexcept override { return "saved"; }
  const Layout& layout() const noexcept override { return stored_->layout(); }
  std::uint32_t tile_count() const noexcept override {
    return static_cast<std::uint32_t>(tile_elements_.size());
  }
  std::uint64_t tile_elements(TileId tile) const override {
    SPILLWAY_CHECK(tile < tile_elements_.size(), "no such tile");
    return tile_elements_[tile];
  }
  std::byte* resident(TileId, std::uint32_t) noexcept override { return nullptr; }

  Transfer read(TileId tile, PlaneRange planes, pinned_pool::Lease lease,
                aio::Priority priority) override {
    SPILLWAY_CHECK(planes.count > 0, "a transfer moves at least one plane");
    SPILLWAY_CHECK(layout().range_bytes(planes, tile_elements(tile)) <= lease.capacity(),
                   "the planes exceed the buffer");
    if (const auto at = place(tile)) return stored_->read(*at, planes, std::move(lease), priority);
    return Transfer::completed(make_error(ErrorKind::kInvalid, "read", path_,
                                          "tile " + std::to_string(tile) + " was not saved"));
  }
  Transfer write(TileId tile, PlaneRange, pinned_pool::Lease) override {
    return Transfer::completed(
        make_error(ErrorKind::kUnsupported, "write", path_,
                   "tile " + std::to_string(tile) + ": saved tiles are for reading only"));
  }

  TierStats stats() const noexcept override { return stored_->files().stats(); }
  std::uint64_t memory_bytes() const noexcept override { return stored_->memory_bytes(); }
  std::uint64_t storage_bytes() const noexcept override { return stored_->files().storage_bytes(); }

 private:
  const std::optional<std::size_t>& place(TileId tile) const {
    SPILLWAY_CHECK(tile < places_.size(), "no such tile");
    return places_[tile];
  }

  const std::string path_;
  const std::vector<std::uint64_t> tile_elements_;
  const std::shared_ptr<StoredTiles> stored_;  // shared with Transfers that outlive this
  std::vector<std::optional<std::size_t>> places_;
};

Result<SavedManifest> read_manifest(const std::filesystem::path& directory) {
  const std::string path = (directory / kSavedManifestName).string();
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) {
    return errno_error("open saved tiles", path, errno, "the manifest of a saved directory");
  }
  if (!S_ISREG(status.st_mode)) {
    return make_error(ErrorKind::kInvalid, "open saved tiles", path, "no regular file");
  }
  // The head tells the size, so that no memory is taken for a large file of another kind.
  const auto size_bytes = static_cast<std::uint64_t>(status.st_size);
  std::vector<std::byte> bytes(std::min<std::uint64_t>(size_bytes, kSavedHeadBytes));
  if (auto read = aio::read_exactly(file.get(), 0, bytes, path); !read) {
    return tl::unexpected(std::move(read.error()));
  }
  const auto wanted = check_head(bytes, path);
  if (!wanted) return tl::unexpected(wanted.error());
  if (*wanted != size_bytes) {
    return make_error(ErrorKind::kCorrupt, "open saved tiles", path,
                      "the manifest has " + std::to_string(size_bytes) +
                          " bytes and says that it has " + std::to_string(*wanted));
  }
  bytes.resize(size_bytes);
  if (auto read = aio::read_exactly(file.get(), 0, bytes, path); !read) {
    return tl::unexpected(std::move(read.error()));
  }
  return decode_saved_manifest(bytes, path);
}

Result<std::unique_ptr<SavedTiles>> open_saved(aio::Engine& engine,
                                               const std::filesystem::path& directory,
                                               const SavedTilesOptions& options) {
  auto manifest = read_manifest(directory);
  if (!manifest) return tl::unexpected(std::move(manifest.error()));
  auto files = std::make_shared<SegmentFiles>(engine, 1, options.direct);
  auto stored = std::make_shared<StoredTiles>(Layout(manifest->planes), files, true);
  auto saved = std::make_unique<SavedFiles>(directory.string(), std::move(manifest->tile_elements),
                                            std::move(stored));
  std::vector<SegmentFiles::SavedFile> wanted;
  for (std::uint32_t file = 0; file < manifest->file_bytes.size(); ++file) {
    wanted.push_back({.path = (directory / saved_segment_name(file)).string(),
                      .size_bytes = manifest->file_bytes[file]});
  }
  auto segments = files->open_saved(wanted);
  if (!segments) return tl::unexpected(std::move(segments.error()));
  for (const SavedManifest::Tile& tile : manifest->tiles) saved->add(tile, (*segments)[tile.file]);
  return saved;
}

}  // namespace

Result<std::unique_ptr<SavedTiles>> SavedTiles::open(aio::Engine& engine,
                                                     const std::filesystem::path& directory,
                                                     const SavedTilesOptions& options) {
  return or_no_memory("open saved tiles", [&] { return open_saved(engine, directory, options); });
}

}  // namespace spillway::swapper
