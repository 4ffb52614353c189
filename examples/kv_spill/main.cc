// A cache of key-value blocks that survives a restart:
//
//   kv_spill DIRECTORY     (an existing one; run it again and again)
//
// The first run puts 64 blocks and spills them to files. Each later run opens what the one before
// saved, checks every byte, puts 16 blocks more and drops as many. The blocks are in
// DIRECTORY/saved-N; everything else is scratch and goes with the process.
#include <spillway/aio/engine.h>
#include <spillway/swapper/saved_tiles.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

using namespace spillway;
using swapper::SavedTiles, swapper::TileId, swapper::TileStore;

// 16 tokens of 8 layers with 8 heads of 128 values: 256 KiB of keys, 256 KiB of values.
constexpr std::uint64_t kBlockElements = 16 * 8 * 8 * 128;
constexpr TileId kPlaces = 128;  // tiles of the store; a block is the tile `number % kPlaces`
constexpr std::uint64_t kFirst = 64;
constexpr std::uint64_t kMore = 16;

const swapper::Layout kLayout(
    {{.name = "number", .bytes_per_block = 8, .elements_per_block = swapper::kRangeElements},
     {.name = "keys", .bytes_per_block = 2},
     {.name = "values", .bytes_per_block = 2}});

std::uint16_t key_of(std::uint64_t block, std::size_t i) {
  return static_cast<std::uint16_t>(i * 31 + block * 7919);
}

struct Planes {
  explicit Planes(std::byte* tile)
      : number(reinterpret_cast<std::uint64_t*>(tile)),
        keys(reinterpret_cast<std::uint16_t*>(tile + kLayout.plane_offset(1, kBlockElements))),
        values(reinterpret_cast<std::uint16_t*>(tile + kLayout.plane_offset(2, kBlockElements))) {}
  std::uint64_t* number;
  std::uint16_t* keys;
  std::uint16_t* values;
};

// The cache: blocks [first, end), all in the store. A real one would keep the hot ones in RAM.
struct Cache {
  TileStore& store;
  pinned_pool::Pool& pool;
  std::uint64_t first = 0;
  std::uint64_t end = 0;

  Result<void> put() {
    pinned_pool::Lease memory = pool.acquire();
    const Planes block(memory.data());
    *block.number = end;
    for (std::size_t i = 0; i < kBlockElements; ++i) {
      block.keys[i] = key_of(end, i);
      block.values[i] = static_cast<std::uint16_t>(~block.keys[i]);
    }
    const auto tile = static_cast<TileId>(end % kPlaces);
    auto written = store.write(tile, kLayout.all(), std::move(memory)).wait();
    if (!written) return tl::unexpected(written.error());
    ++end;
    return {};
  }
  void drop_oldest() { store.free(static_cast<TileId>(first++ % kPlaces)); }
};

// The newest DIRECTORY/saved-N; 0 if there is none.
std::uint64_t newest_save(const std::filesystem::path& directory) {
  std::uint64_t newest = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    unsigned long long number = 0;
    const std::string name = entry.path().filename().string();
    if (std::sscanf(name.c_str(), "saved-%llu", &number) == 1 && number > newest) newest = number;
  }
  return newest;
}

// Takes over every block that the run before saved. Fails with kCorrupt at the first wrong byte.
Result<void> restore(SavedTiles& saved, Cache& cache) {
  cache.first = ~std::uint64_t{0};
  for (TileId tile = 0; tile < saved.tile_count(); ++tile) {
    if (!saved.contains(tile)) continue;
    auto read = saved.read(tile, kLayout.all(), cache.pool.acquire()).wait();
    if (!read) return tl::unexpected(read.error());
    const Planes block(read->data());
    bool same = *block.number % kPlaces == tile;
    for (std::size_t i = 0; i < kBlockElements; ++i) {
      same &= block.keys[i] == key_of(*block.number, i);
      same &= block.values[i] == static_cast<std::uint16_t>(~block.keys[i]);
    }
    if (!same) {
      return make_error(ErrorKind::kCorrupt, "check", "",
                        "tile " + std::to_string(tile) + " is not the block that was put");
    }
    cache.first = std::min(cache.first, *block.number);
    cache.end = std::max(cache.end, *block.number + 1);
    auto written = cache.store.write(tile, kLayout.all(), std::move(*read)).wait();
    if (!written) return tl::unexpected(written.error());
  }
  return {};
}

Result<void> run(const std::filesystem::path& directory) {
  auto engine = aio::Engine::create({});
  if (!engine) return tl::unexpected(engine.error());
  auto pool = pinned_pool::Pool::create(
      {.buffer_bytes = kLayout.tile_bytes(kBlockElements), .buffer_count = 4, .name = "blocks"},
      engine->get());
  if (!pool) return tl::unexpected(pool.error());
  auto store = TileStore::create(**engine, kLayout, std::vector(kPlaces, kBlockElements),
                                 {.directories = {directory}, .name = "kv"});
  if (!store) return tl::unexpected(store.error());
  // Places without a block take no space.
  for (TileId tile = 0; tile < kPlaces; ++tile) (*store)->free(tile);

  Cache cache{.store = **store, .pool = **pool};
  const std::uint64_t last = newest_save(directory);
  const auto path_of = [&](std::uint64_t number) {
    return directory / ("saved-" + std::to_string(number));
  };
  if (last > 0) {
    auto saved = SavedTiles::open(**engine, path_of(last));
    if (!saved) return tl::unexpected(saved.error());
    if (auto restored = restore(**saved, cache); !restored) return restored;
    std::printf("opened %s: blocks %llu to %llu, every byte as it was put\n", path_of(last).c_str(),
                static_cast<unsigned long long>(cache.first),
                static_cast<unsigned long long>(cache.end - 1));
  }
  for (std::uint64_t i = 0; i < (last > 0 ? kMore : kFirst); ++i) {
    if (auto put = cache.put(); !put) return put;
    if (last > 0) cache.drop_oldest();
  }
  // This process ends, so no tile is written again and the save needs no room for that.
  auto saved =
      swapper::save_tiles(**store, path_of(last + 1), {.rewritten = std::vector<bool>(kPlaces)});
  if (!saved) return saved;
  // With those that killed runs left, down to the first that is gone.
  for (std::uint64_t old = last; old > 0 && std::filesystem::remove_all(path_of(old)) > 0; --old) {
  }
  std::printf("saved %s: blocks %llu to %llu\n", path_of(last + 1).c_str(),
              static_cast<unsigned long long>(cache.first),
              static_cast<unsigned long long>(cache.end - 1));
  return {};
}

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: kv_spill DIRECTORY\n");
    return 2;
  }
  const Result<void> done = run(argv[1]);
  if (!done) std::fprintf(stderr, "kv_spill: %s\n", done.error().message().c_str());
  return done ? 0 : 1;
}
