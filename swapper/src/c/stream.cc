#include <spillway/swapper/tile_stream.h>

#include <numeric>
#include <vector>

#include "objects.h"
#include "options.h"

using namespace spillway;
using namespace spillway::c;

namespace {

constexpr const char* kWhat = "run stream";

spillway_status misuse(const std::string& detail) { return failed(SPILLWAY_MISUSE, kWhat, detail); }

// A part with what its handles stand for, which nobody can destroy meanwhile.
struct CheckedPart {
  Use<StoreObject> store;
  TileClaims::Claim claim;
  Use<PoolObject> pool;
  swapper::PlaneRange planes;
  swapper::Access access = swapper::Access::kRead;
};

spillway_status check_part(const spillway_part& given, CheckedPart& part) {
  auto store = find<StoreObject>(given.store, kWhat);
  if (!store) return store.error();
  auto pool = find<PoolObject>(given.pool, kWhat);
  if (!pool) return pool.error();
  part.store = Use(std::move(*store));
  part.claim = part.store->claims->claim_stream();
  if (part.claim == nullptr) {
    return failed(SPILLWAY_IN_USE, kWhat, "a part's store is being saved");
  }
  part.pool = Use(std::move(*pool));
  const std::uint32_t planes = part.store->store->layout().plane_count();
  if (given.first_plane >= planes || given.plane_count > planes - given.first_plane) {
    return misuse("a part's planes exceed the " + std::to_string(planes) + " of its store");
  }
  part.planes = {.first = given.first_plane,
                 .count = given.plane_count == 0 ? planes - given.first_plane : given.plane_count};
  if (given.access < SPILLWAY_ACCESS_READ || given.access > SPILLWAY_ACCESS_READ_WRITE) {
    return misuse("a part's access is " + std::to_string(given.access));
  }
  if (given.access == SPILLWAY_ACCESS_WRITE) part.access = swapper::Access::kWrite;
  if (given.access == SPILLWAY_ACCESS_READ_WRITE) part.access = swapper::Access::kReadWrite;
  const swapper::TileStore& tiles = *part.store->store;
  const std::size_t bytes = tiles.layout().range_bytes(part.planes, tiles.tile_elements(0));
  if (bytes > part.pool->pool->buffer_bytes()) {
    return misuse("a part of " + std::to_string(bytes) + " bytes does not fit into a buffer of " +
                  std::to_string(part.pool->pool->buffer_bytes()));
  }
  return SPILLWAY_OK;
}

bool overlap(swapper::PlaneRange a, swapper::PlaneRange b) {
  return a.first < b.first + b.count && b.first < a.first + a.count;
}

// What the parts must not be together.
spillway_status check_parts(const std::vector<CheckedPart>& parts) {
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].store->store->tile_count() != parts[0].store->store->tile_count()) {
      return misuse("the parts' stores have different numbers of tiles");
    }
    std::size_t of_pool = 0;
    for (std::size_t j = 0; j < parts.size(); ++j) {
      of_pool += parts[j].pool.get() == parts[i].pool.get();
      const bool writes =
          parts[i].access != swapper::Access::kRead || parts[j].access != swapper::Access::kRead;
      if (j < i && writes && parts[i].store.get() == parts[j].store.get() &&
          overlap(parts[i].planes, parts[j].planes)) {
        return misuse("a plane that is written is in two parts");
      }
    }
    if (of_pool > parts[i].pool->pool->buffer_count()) {
      return misuse("the parts of one tile exceed the buffers of their pool");
    }
  }
  return SPILLWAY_OK;
}

// A store that was saved may not be written as before.
spillway_status check_writable(const std::vector<CheckedPart>& parts,
                               const std::vector<std::uint32_t>& tiles) {
  for (const CheckedPart& part : parts) {
    if (part.access == swapper::Access::kRead) continue;
    for (const std::uint32_t tile : tiles) {
      const char* const why_not = part.store->store->why_not_writable(tile, part.planes);
      if (why_not != nullptr) return misuse("tile " + std::to_string(tile) + ": " + why_not);
    }
  }
  return SPILLWAY_OK;
}

spillway_status check_tiles(const spillway_stream_options& given,
                            const std::vector<CheckedPart>& parts,
                            std::vector<std::uint32_t>& tiles) {
  const std::uint32_t count = parts[0].store->store->tile_count();
  if (given.tiles == nullptr) {
    if (given.tile_count != 0) return misuse("tile_count is given, and `tiles` is NULL");
    tiles.resize(count);
    std::iota(tiles.begin(), tiles.end(), 0u);
    return SPILLWAY_OK;
  }
  tiles.assign(given.tiles, given.tiles + given.tile_count);
  const bool writes = std::any_of(parts.begin(), parts.end(), [](const CheckedPart& part) {
    return part.access != swapper::Access::kRead;
  });
  std::vector<bool> seen(count);
  for (const std::uint32_t tile : tiles) {
    if (tile >= count) {
      return misuse("tile " + std::to_string(tile) + " of " + std::to_string(count) +
                    " does not exist");
    }
    if (writes && seen[tile]) {
      return misuse("tile " + std::to_string(tile) + " is written, and there twice");
    }
    seen[tile] = true;
  }
  return SPILLWAY_OK;
}

std::vector<swapper::Item> items_of(const std::vector<CheckedPart>& parts,
                                    const std::vector<std::uint32_t>& tiles) {
  std::vector<swapper::Item> items;
  items.reserve(tiles.size());
  for (const std::uint32_t tile : tiles) {
    swapper::Item& item = items.emplace_back();
    for (const CheckedPart& part : parts) {
      item.push_back({.tier = part.store->store.get(),
                      .tile = tile,
                      .planes = part.planes,
                      .access = part.access,
                      .pool = part.pool->pool.get()});
    }
  }
  return items;
}

// Calls the C function with what TileStream hands out.
class Caller {
 public:
  Caller(const std::vector<CheckedPart>& parts, const std::vector<std::uint32_t>& tiles,
         spillway_compute compute, void* context)
      : parts_(parts), tiles_(tiles), compute_(compute), context_(context) {
    planes_.resize(parts.size());
    views_.resize(parts.size());
    for (std::size_t i = 0; i < parts.size(); ++i) planes_[i].resize(parts[i].planes.count);
  }

  Result<void> operator()(std::size_t item, std::span<const swapper::PartView> parts) {
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const swapper::PlaneRange range = parts_[i].planes;
      for (std::uint32_t plane = 0; plane < range.count; ++plane) {
        planes_[i][plane] = parts[i].plane(range.first + plane);
      }
      views_[i] = {
          .elements = parts[i].elements(), .plane_count = range.count, .planes = planes_[i].data()};
    }
    const int stop = compute_(context_, tiles_[item], views_.data());
    if (stop == 0) return {};
    return make_error(ErrorKind::kCancelled, kWhat, "",
                      "the compute function returned " + std::to_string(stop) + " for tile " +
                          std::to_string(tiles_[item]));
  }

 private:
  const std::vector<CheckedPart>& parts_;
  const std::vector<std::uint32_t>& tiles_;
  const spillway_compute compute_;
  void* const context_;
  std::vector<std::vector<void*>> planes_;
  std::vector<spillway_part_view> views_;
};

}  // namespace

spillway_status spillway_stream_run(const spillway_stream_options* options,
                                    spillway_compute compute, void* context,
                                    spillway_stream_stats* stats) {
  return guarded(kWhat, [&] {
    spillway_stream_options given;
    if (auto status = read_options(options, &given, kWhat, /*may_be_null=*/false)) return status;
    if (compute == nullptr) return misuse("the compute function is NULL");
    if (given.parts == nullptr || given.part_count == 0) return misuse("there are no parts");
    if (given.part_count > 1024) return misuse("more than 1024 parts");
    // Before the work, not after it.
    if (stats != nullptr) {
      if (auto status = write_result({}, stats, kWhat)) return status;
    }
    std::vector<CheckedPart> parts(given.part_count);
    for (std::uint32_t i = 0; i < given.part_count; ++i) {
      if (auto status = check_part(given.parts[i], parts[i])) return status;
    }
    if (auto status = check_parts(parts)) return status;
    std::vector<std::uint32_t> tiles;
    if (auto status = check_tiles(given, parts, tiles)) return status;
    if (auto status = check_writable(parts, tiles)) return status;
    const std::vector<swapper::Item> items = items_of(parts, tiles);
    Caller caller(parts, tiles, compute, context);
    const auto done = swapper::TileStream::run(items, std::ref(caller));
    if (!done) return failed(done.error());
    if (stats == nullptr) return SPILLWAY_OK;
    return write_result({.size = 0,
                         .compute_seconds = done->compute_seconds,
                         .read_wait_seconds = done->read_wait_seconds,
                         .write_wait_seconds = done->write_wait_seconds},
                        stats, kWhat);
  });
}
