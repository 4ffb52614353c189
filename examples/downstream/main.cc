// Keeps 16 tiles of two planes in a directory, changes every one of them, and checks what comes
// back:
//
//   downstream DIRECTORY     (an existing one, on a real disk; nothing is left behind)
#include <spillway/aio/engine.h>
#include <spillway/pinned_pool/pool.h>
#include <spillway/swapper/tile_store.h>
#include <spillway/swapper/tile_stream.h>
#include <spillway/version.h>

#include <cstdio>
#include <vector>

using namespace spillway;

constexpr std::uint32_t kTiles = 16;
constexpr std::uint64_t kElements = 300'000;  // of each tile

// One pass over all tiles: reads ahead, calls `change`, writes behind.
template <typename Change>
Result<void> pass(swapper::TileStore& store, pinned_pool::Pool& pool, swapper::Access access,
                  Change change) {
  std::vector<swapper::Item> items;
  for (swapper::TileId tile = 0; tile < kTiles; ++tile) {
    items.push_back({{&store, tile, store.layout().all(), access, &pool}});
  }
  auto compute = [&](std::size_t item, std::span<const swapper::PartView> parts) {
    auto* values = reinterpret_cast<float*>(parts[0].plane(0));
    auto* counts = reinterpret_cast<std::int32_t*>(parts[0].plane(1));
    for (std::uint64_t i = 0; i < kElements; ++i) change(item, i, values[i], counts[i]);
    return Result<void>{};
  };
  auto stats = swapper::TileStream::run(items, compute);
  if (!stats) return tl::unexpected(stats.error());
  return {};
}

Result<std::uint64_t> run(const char* directory) {
  auto engine = aio::Engine::create({});
  if (!engine) return tl::unexpected(engine.error());
  const swapper::Layout layout({{"value", sizeof(float)}, {"count", sizeof(std::int32_t)}});
  // Four buffers: that is all the memory it takes, however many tiles there are.
  auto pool = pinned_pool::Pool::create(
      {.buffer_bytes = layout.tile_bytes(kElements), .buffer_count = 4, .name = "tiles"},
      engine->get());
  if (!pool) return tl::unexpected(pool.error());
  auto store = swapper::TileStore::create(**engine, layout, std::vector(kTiles, kElements),
                                          {.directories = {directory}});
  if (!store) return tl::unexpected(store.error());

  std::uint64_t wrong = 0;
  auto fill = [](std::size_t tile, std::uint64_t i, float& value, std::int32_t& count) {
    value = static_cast<float>(tile) + static_cast<float>(i % 1000) / 1024;
    count = 0;
  };
  auto add = [](std::size_t, std::uint64_t, float& value, std::int32_t& count) {
    value += 1;
    ++count;
  };
  auto check = [&](std::size_t tile, std::uint64_t i, float& value, std::int32_t& count) {
    wrong += value != static_cast<float>(tile) + static_cast<float>(i % 1000) / 1024 + 1;
    wrong += count != 1;
  };
  using swapper::Access;
  return pass(**store, **pool, Access::kWrite, fill)
      .and_then([&] { return pass(**store, **pool, Access::kReadWrite, add); })
      .and_then([&] { return pass(**store, **pool, Access::kRead, check); })
      .map([&] { return wrong; });
}

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: downstream DIRECTORY\n");
    return 2;
  }
  const Result<std::uint64_t> wrong = run(argv[1]);
  if (!wrong) {
    std::fprintf(stderr, "downstream: %s\n", wrong.error().message().c_str());
    return 1;
  }
  std::printf("spillway %s: %u tiles of %llu elements, %llu wrong\n", SPILLWAY_VERSION_STRING,
              kTiles, static_cast<unsigned long long>(kElements),
              static_cast<unsigned long long>(*wrong));
  return *wrong == 0 ? 0 : 1;
}
