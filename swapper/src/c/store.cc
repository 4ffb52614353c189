#include "objects.h"
#include "options.h"

using namespace spillway;
using namespace spillway::c;

namespace {

constexpr std::uint64_t kMaxTiles = std::uint64_t{1} << 24;
constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 62;  // of a store

spillway_status misuse(const std::string& detail) {
  return failed(SPILLWAY_MISUSE, "create tile store", detail);
}

spillway_status check_planes(const spillway_store_options& given) {
  if (given.planes == nullptr || given.plane_count == 0) return misuse("there are no planes");
  if (given.plane_count > 1024) return misuse("more than 1024 planes");
  for (std::uint32_t i = 0; i < given.plane_count; ++i) {
    const spillway_plane& plane = given.planes[i];
    if (plane.name == nullptr) return misuse("plane " + std::to_string(i) + " has no name");
    if (plane.bytes_per_block == 0) {
      return misuse("bytes_per_block of plane '" + std::string(plane.name) + "' is 0");
    }
    for (std::uint32_t other = 0; other < i; ++other) {
      if (std::string(plane.name) == given.planes[other].name) {
        return misuse("two planes are named '" + std::string(plane.name) + "'");
      }
    }
  }
  return SPILLWAY_OK;
}

// Checks the sizes, so that no product or sum of them overflows.
spillway_status check_sizes(const spillway_store_options& given) {
  if (given.element_count == 0) return misuse("element_count is 0");
  if (given.tile_elements == 0) return misuse("tile_elements is 0");
  const std::uint64_t tiles = (given.element_count - 1) / given.tile_elements + 1;
  if (tiles > kMaxTiles) {
    return misuse(std::to_string(tiles) + " tiles, at most " + std::to_string(kMaxTiles));
  }
  const std::uint64_t largest = std::min(given.tile_elements, given.element_count);
  std::uint64_t bytes = 0;  // of a tile
  for (std::uint32_t i = 0; i < given.plane_count; ++i) {
    const std::uint64_t of_block = given.planes[i].bytes_per_block;
    const std::uint64_t elements = std::max(given.planes[i].elements_per_block, 1u);
    const std::uint64_t blocks = (largest - 1) / elements + 1;
    if (blocks > kMaxBytes / of_block) return misuse("a plane's bytes exceed any storage");
    bytes += blocks * of_block + swapper::kPlaneAlignment;
    if (bytes > kMaxBytes / tiles) return misuse("the tiles' bytes exceed any storage");
  }
  return SPILLWAY_OK;
}

spillway_status check_rest(const spillway_store_options& given) {
  if (given.directories == nullptr || given.directory_count == 0) {
    return misuse("there are no directories");
  }
  if (given.directory_count > 1024) return misuse("more than 1024 directories");
  for (std::uint32_t i = 0; i < given.directory_count; ++i) {
    if (given.directories[i] == nullptr) return misuse("a directory is NULL");
  }
  if (given.locks == nullptr && given.lock_count != 0) return misuse("the locks are NULL");
  return want_choice(given.direct, 2, "direct", "create tile store");
}

swapper::Layout layout_of(const spillway_store_options& given) {
  std::vector<swapper::Plane> planes;
  for (std::uint32_t i = 0; i < given.plane_count; ++i) {
    const spillway_plane& plane = given.planes[i];
    planes.push_back({.name = plane.name,
                      .bytes_per_block = plane.bytes_per_block,
                      .elements_per_block = std::max(plane.elements_per_block, 1u)});
  }
  return swapper::Layout(std::move(planes));
}

spillway_status find_locks(const spillway_store_options& given, StoreObject& object,
                           swapper::TileStoreOptions& wanted) {
  for (std::size_t i = 0; i < given.lock_count; ++i) {
    auto lock = find<LockObject>(given.locks[i], "create tile store");
    if (!lock) return lock.error();
    wanted.locks.push_back((*lock)->lock);
    object.locks.push_back(Use(std::move(*lock)));
  }
  return SPILLWAY_OK;
}

}  // namespace

spillway_status spillway_store_create(spillway_engine* engine,
                                      const spillway_store_options* options,
                                      spillway_store** store) {
  return guarded("create tile store", [&] {
    const char* const what = "create tile store";
    if (auto status = want(store, what)) return status;
    *store = nullptr;
    spillway_store_options given;
    if (auto status = read_options(options, &given, what, /*may_be_null=*/false)) return status;
    if (auto status = check_planes(given)) return status;
    if (auto status = check_sizes(given)) return status;
    if (auto status = check_rest(given)) return status;
    auto found = find<EngineObject>(engine, what);
    if (!found) return found.error();
    auto object = std::make_shared<StoreObject>();
    object->log = {given.log, given.log_context};
    object->engine = Use(std::move(*found));
    const swapper::Layout layout = layout_of(given);
    swapper::TileStoreOptions wanted;
    wanted.directories.assign(given.directories, given.directories + given.directory_count);
    if (given.name != nullptr) wanted.name = given.name;
    wanted.share_locks = true;
    wanted.direct = direct_of(given.direct);
    wanted.log = object->log.callback();
    if (auto status = find_locks(given, *object, wanted)) return status;
    auto tiles = swapper::cut_into_tiles(
        {.total_elements = given.element_count, .tile_elements = given.tile_elements});
    object->largest_tile_bytes = layout.tile_bytes(tiles.front());
    auto made =
        swapper::TileStore::create(*object->engine->engine, layout, std::move(tiles), wanted);
    if (!made) return failed(made.error());
    object->store = std::move(*made);
    return give(std::move(object), store, what);
  });
}

spillway_status spillway_store_destroy(spillway_store* store) {
  return guarded("destroy tile store",
                 [&] { return remove_object(store, Kind::kStore, "destroy tile store"); });
}

spillway_status spillway_store_get_info(spillway_store* store, spillway_store_info* info) {
  return guarded("tile store info", [&] {
    auto object = find<StoreObject>(store, "tile store info");
    if (!object) return object.error();
    const swapper::TileStore& tiles = *(*object)->store;
    const swapper::TierStats stats = tiles.stats();
    return write_result({.size = 0,
                         .tile_count = tiles.tile_count(),
                         .plane_count = tiles.layout().plane_count(),
                         .tile_bytes = (*object)->largest_tile_bytes,
                         .storage_bytes = tiles.storage_bytes(),
                         .read_bytes = stats.read_bytes,
                         .written_bytes = stats.written_bytes},
                        info, "tile store info");
  });
}

spillway_status spillway_store_tile_elements(spillway_store* store, uint32_t tile,
                                             uint64_t* elements) {
  return guarded("tile elements", [&] {
    if (auto status = want(elements, "tile elements")) return status;
    *elements = 0;
    auto object = find<StoreObject>(store, "tile elements");
    if (!object) return object.error();
    if (tile >= (*object)->store->tile_count()) {
      return no_such_tile(*(*object)->store, tile, "tile elements");
    }
    *elements = (*object)->store->tile_elements(tile);
    return SPILLWAY_OK;
  });
}

spillway_status spillway_store_plane_offset(spillway_store* store, uint32_t tile, uint32_t plane,
                                            size_t* offset) {
  return guarded("plane offset", [&] {
    if (auto status = want(offset, "plane offset")) return status;
    *offset = 0;
    auto object = find<StoreObject>(store, "plane offset");
    if (!object) return object.error();
    const swapper::TileStore& tiles = *(*object)->store;
    if (tile >= tiles.tile_count()) return no_such_tile(tiles, tile, "plane offset");
    if (plane >= tiles.layout().plane_count()) {
      return failed(SPILLWAY_MISUSE, "plane offset", "there is no such plane");
    }
    *offset = tiles.layout().plane_offset(plane, tiles.tile_elements(tile));
    return SPILLWAY_OK;
  });
}
