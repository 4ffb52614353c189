#include <spillway/swapper/saved_tiles.h>

#include <algorithm>
#include <vector>

#include "objects.h"
#include "options.h"

using namespace spillway;
using namespace spillway::c;

namespace {

constexpr const char* kSave = "save tiles";

spillway_status check_tile(const swapper::Tier& tiles, std::uint32_t tile, const char* what) {
  if (tile < tiles.tile_count()) return SPILLWAY_OK;
  return no_such_tile(tiles, tile, what);
}

spillway_status read_tile(swapper::SavedTiles& tiles, std::uint32_t tile, spillway_lease* lease,
                          const char* what) {
  if (tile >= tiles.tile_count()) return no_such_tile(tiles, tile, what);
  auto found_lease = find<LeaseObject>(lease, what);
  if (!found_lease) return found_lease.error();
  const Use<LeaseObject> memory(std::move(*found_lease));
  const std::size_t bytes = tiles.layout().tile_bytes(tiles.tile_elements(tile));
  if (memory->capacity < bytes) {
    return failed(SPILLWAY_MISUSE, what,
                  "the tile's " + std::to_string(bytes) + " bytes do not fit into a lease of " +
                      std::to_string(memory->capacity));
  }
  auto buffer = take_buffer(*memory.get(), what);
  if (!buffer) return buffer.error();
  pinned_pool::Lease moved(std::move(*buffer));
  auto ended = tiles.read(tile, tiles.layout().all(), std::move(moved)).wait();
  if (!ended) {
    // The buffer will return to the pool; another one takes its place, if one is free.
    put_back(*memory.get(), memory->pool->pool->try_acquire());
    return failed(ended.error());
  }
  put_back(*memory.get(), std::move(*ended));
  return SPILLWAY_OK;
}

spillway_status read_tiles(const spillway_save_options& given, const swapper::TileStore& store,
                           swapper::SaveOptions& options) {
  if (given.read_only != 0) options.rewritten.resize(store.tile_count());
  if (given.tiles == nullptr) {
    if (given.tile_count == 0) return SPILLWAY_OK;
    return failed(SPILLWAY_MISUSE, kSave, "tile_count is given, and `tiles` is NULL");
  }
  options.tiles.resize(store.tile_count());
  for (std::uint32_t i = 0; i < given.tile_count; ++i) {
    const std::uint32_t tile = given.tiles[i];
    if (auto status = check_tile(store, tile, kSave)) return status;
    if (options.tiles[tile]) {
      return failed(SPILLWAY_MISUSE, kSave, "tile " + std::to_string(tile) + " is there twice");
    }
    options.tiles[tile] = true;
  }
  return SPILLWAY_OK;
}

}  // namespace

spillway_status spillway_store_free(spillway_store* store, uint32_t tile) {
  constexpr const char* kWhat = "free tile";
  return guarded(kWhat, [&] {
    auto found = find<StoreObject>(store, kWhat);
    if (!found) return found.error();
    const Use<StoreObject> object(std::move(*found));
    if (auto status = check_tile(*object->store, tile, kWhat)) return status;
    // The first knows abandoned transfers, too, the second those of streams.
    const auto claim = object->claims->claim(tile, object->store->layout().all());
    if (claim == nullptr || object->store->in_flight(tile)) {
      return failed(SPILLWAY_IN_USE, kWhat,
                    "a transfer of tile " + std::to_string(tile) + " must end first");
    }
    object->store->free(tile);
    return SPILLWAY_OK;
  });
}

spillway_status spillway_store_save(spillway_store* store, const char* directory,
                                    const spillway_save_options* options) {
  return guarded(kSave, [&] {
    if (directory == nullptr) return failed(SPILLWAY_MISUSE, kSave, "the directory is NULL");
    spillway_save_options given;
    if (auto status = read_options(options, &given, kSave)) return status;
    auto found = find<StoreObject>(store, kSave);
    if (!found) return found.error();
    const Use<StoreObject> object(std::move(*found));
    const auto claim = object->claims->claim_all();
    if (claim == nullptr) {
      return failed(SPILLWAY_IN_USE, kSave, "a transfer or a stream of the store must end first");
    }
    swapper::TileStore& tiles = *object->store;
    swapper::SaveOptions wanted;
    if (auto status = read_tiles(given, tiles, wanted)) return status;
    auto saved = swapper::save_tiles(tiles, directory, wanted);
    return saved ? SPILLWAY_OK : failed(saved.error());
  });
}

spillway_status spillway_saved_open(spillway_engine* engine, const char* directory,
                                    spillway_saved** saved) {
  constexpr const char* kWhat = "open saved tiles";
  return guarded(kWhat, [&] {
    if (auto status = want(saved, kWhat)) return status;
    *saved = nullptr;
    if (directory == nullptr) return failed(SPILLWAY_MISUSE, kWhat, "the directory is NULL");
    auto found = find<EngineObject>(engine, kWhat);
    if (!found) return found.error();
    auto object = std::make_shared<SavedObject>();
    object->engine = Use(std::move(*found));
    auto opened = swapper::SavedTiles::open(*object->engine->engine, directory);
    if (!opened) return failed(opened.error());
    object->saved = std::move(*opened);
    return give(std::move(object), saved, kWhat);
  });
}

spillway_status spillway_saved_close(spillway_saved* saved) {
  return guarded("close saved tiles",
                 [&] { return remove_object(saved, Kind::kSaved, "close saved tiles"); });
}

spillway_status spillway_saved_get_info(spillway_saved* saved, spillway_saved_info* info) {
  return guarded("saved tiles info", [&] {
    auto object = find<SavedObject>(saved, "saved tiles info");
    if (!object) return object.error();
    const swapper::SavedTiles& tiles = *(*object)->saved;
    std::uint64_t largest = 0;
    for (std::uint32_t tile = 0; tile < tiles.tile_count(); ++tile) {
      largest = std::max(largest, tiles.tile_elements(tile));
    }
    return write_result({.size = 0,
                         .tile_count = tiles.tile_count(),
                         .plane_count = tiles.layout().plane_count(),
                         .tile_bytes = largest == 0 ? 0 : tiles.layout().tile_bytes(largest),
                         .storage_bytes = tiles.storage_bytes(),
                         .read_bytes = tiles.stats().read_bytes},
                        info, "saved tiles info");
  });
}

spillway_status spillway_saved_contains(spillway_saved* saved, uint32_t tile, int* contains) {
  constexpr const char* kWhat = "look for a saved tile";
  return guarded(kWhat, [&] {
    if (auto status = want(contains, kWhat)) return status;
    *contains = 0;
    auto object = find<SavedObject>(saved, kWhat);
    if (!object) return object.error();
    if (auto status = check_tile(*(*object)->saved, tile, kWhat)) return status;
    *contains = (*object)->saved->contains(tile) ? 1 : 0;
    return SPILLWAY_OK;
  });
}

spillway_status spillway_saved_tile_elements(spillway_saved* saved, uint32_t tile,
                                             uint64_t* elements) {
  constexpr const char* kWhat = "elements of a saved tile";
  return guarded(kWhat, [&] {
    if (auto status = want(elements, kWhat)) return status;
    *elements = 0;
    auto object = find<SavedObject>(saved, kWhat);
    if (!object) return object.error();
    if (auto status = check_tile(*(*object)->saved, tile, kWhat)) return status;
    *elements = (*object)->saved->tile_elements(tile);
    return SPILLWAY_OK;
  });
}

spillway_status spillway_saved_read(spillway_saved* saved, uint32_t tile, spillway_lease* lease) {
  constexpr const char* kWhat = "read saved tile";
  return guarded(kWhat, [&] {
    auto found = find<SavedObject>(saved, kWhat);
    if (!found) return found.error();
    const Use<SavedObject> object(std::move(*found));
    return read_tile(*object->saved, tile, lease, kWhat);
  });
}
