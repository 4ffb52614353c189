// save_tiles and SavedTiles: tiles of a store that survive the process, in a directory of their
// own.
//
// A saved directory holds segment files and a manifest with the checksums of every block
// (docs/format.md). Segments are hard links of the store's sealed files where that is possible:
// they take no space and no time, and a store never writes to a sealed file. Do not write to them
// either. Elsewhere (another filesystem, one without links) the tiles are copied, and verified on
// the way. Only their owner may read them: 0700 and 0600, because tiles hold users' data.
#pragma once

#include <spillway/aio/engine.h>
#include <spillway/aio/export.h>
#include <spillway/swapper/tile_store.h>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

namespace spillway::swapper {

inline constexpr const char* kSavedManifestName = "spillway-tiles";

struct SaveOptions {
  // The tiles to save; empty: all that were written. A linked file holds its other tiles too.
  std::vector<bool> tiles = {};
  // The tiles that will be written again, as for Tier::seal, which reserves as much space for them;
  // empty: all. A program that saves and exits gives all false.
  std::vector<bool> rewritten = {};
};

// Seals the store, and makes a new `directory` with its tiles, durably (fdatasync of the segments,
// fsync of the manifest and the directories). It is made under a hidden name beside it and renamed
// at the end: after a kill or a power loss it is there with all, or not at all. What a killed save
// left behind is removed by the next save of the same name. The store goes on afterwards; what it
// writes then does not change what is saved. Blocks.
//
// kBusy: something has the name, or another process saves to it. kNoSpace, with the arithmetic,
// before anything is sealed. kInvalid: a tile to save has no bytes, or bytes of some planes only;
// no name; a foreign file in what a killed save left. kUnsupported: the store has no checksums, so
// nothing could be verified later. kCorrupt: a tile to copy is damaged. After a failure nothing is
// left at `directory`. REQUIRES: as Tier::seal; one entry for each tile, or none, in both options.
SPILLWAY_API Result<void> save_tiles(TileStore& store, const std::filesystem::path& directory,
                                     const SaveOptions& options = {});

struct SavedTilesOptions {
  aio::Direct direct = aio::Direct::kAuto;
};

// SavedTiles: a read-only Tier over a saved directory. Any number of processes may open it at once.
// Threads: as Tier.
class SPILLWAY_API SavedTiles : public Tier {
 public:
  // Reads the manifest and opens the segments; reads no tile. The directory may be renamed, moved
  // or removed while it is open. `engine` must outlive the SavedTiles. Blocks.
  //
  // kNotFound: no directory, manifest or segment; kCorrupt: a damaged manifest, a segment of
  // another size; kInvalid: another kind of file; kUnsupported: a later version, another byte order
  // or checksum; kNoMemory.
  static Result<std::unique_ptr<SavedTiles>> open(aio::Engine& engine,
                                                  const std::filesystem::path& directory,
                                                  const SavedTilesOptions& options = {});

  // True if the tile was saved. Reading another one is kInvalid. Does not block.
  // REQUIRES: tile < tile_count(), which is that of the store.
  virtual bool contains(TileId tile) const = 0;
};
// `read` verifies every byte: kCorrupt names file, tile, plane and offset. `write` is kUnsupported.

}  // namespace spillway::swapper
