// A fixture with a TileStore over the simulator, tiles, a pool and a sweep over all tiles.
#pragma once

#include <gtest/gtest.h>
#include <spillway/swapper/tile_store.h>
#include <spillway/swapper/tile_stream.h>

#include <chrono>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "support/scratch.h"
#include "support/simulator.h"
#include "swapper/store_fixture.h"

namespace spillway::swapper {

struct FaultFixtureOptions {
  aio::SimulatorOptions simulator = {};
  std::uint32_t block_size_bytes = 64 << 10;
  std::uint32_t tiles = 3;
  std::uint64_t elements = 12'000;
};

class FaultFixture {
 public:
  static constexpr std::size_t kBuffers = 2;

  explicit FaultFixture(const FaultFixtureOptions& options = {})
      : layout_({{"param_lo", 2}, {"exp_avg", 4}, {"exp_avg_sq", 4}}),
        control_(std::make_shared<aio::SimulatorControl>(options.simulator)) {
    auto engine = aio::Engine::create({.block_size_bytes = options.block_size_bytes,
                                       .queue_depth = 8,
                                       .drain_timeout = std::chrono::milliseconds(100)},
                                      aio::simulator_backend(control_));
    EXPECT_TRUE(engine) << engine.error().message();
    engine_ = std::move(*engine);
    auto pool = pinned_pool::Pool::create({.buffer_bytes = layout_.tile_bytes(options.elements),
                                           .buffer_count = kBuffers,
                                           .name = "test",
                                           .huge_pages = pinned_pool::Policy::kOff,
                                           .lock = pinned_pool::Policy::kOff});
    EXPECT_TRUE(pool) << pool.error().message();
    pool_ = std::move(*pool);
    auto store = TileStore::create(*engine_, layout_,
                                   std::vector<std::uint64_t>(options.tiles, options.elements),
                                   {.directories = {scratch_.path()}, .segment_bytes = 1 << 20});
    EXPECT_TRUE(store) << store.error().message();
    store_ = std::move(*store);
  }

  TileStore& store() { return *store_; }
  aio::SimulatorControl& control() { return *control_; }
  pinned_pool::Pool& pool() { return *pool_; }
  PlaneRange all() const { return layout_.all(); }
  const Layout& layout() const { return layout_; }
  std::uint64_t tile_stride() const { return layout_.tile_bytes(store_->tile_elements(0)); }
  void drop_store() { store_.reset(); }
  void drop_engine() { engine_.reset(); }

  // Gives tile t the bytes of version `first + t`.
  Result<void> write_all(std::uint32_t first) {
    for (TileId tile = 0; tile < store_->tile_count(); ++tile) {
      if (auto written = write_tile(*store_, tile, all(), first + tile); !written) return written;
    }
    return {};
  }
  Result<void> check_all(std::uint32_t first) {
    for (TileId tile = 0; tile < store_->tile_count(); ++tile) {
      if (auto same = check_tile(*store_, tile, all(), first + tile); !same) return same;
    }
    return {};
  }
  // Reads every tile t, checks that it has version `from + t`, and writes version `to + t`.
  // Adds the tiles it read to `computed`.
  Result<void> sweep(std::uint32_t from, std::uint32_t to, std::set<TileId>& computed) {
    std::vector<Item> items;
    for (TileId tile = 0; tile < store_->tile_count(); ++tile) {
      items.push_back({{store_.get(), tile, all(), Access::kReadWrite, pool_.get()}});
    }
    const auto stats = TileStream::run(items, [&](std::size_t item, auto parts) -> Result<void> {
      computed.insert(TileId(item));
      std::byte* const data = parts[0].plane(0);
      const std::uint64_t elements = parts[0].elements();
      EXPECT_TRUE(holds(data, layout_, elements, all(), from + std::uint32_t(item)));
      fill(data, layout_, elements, all(), to + std::uint32_t(item));
      return {};
    });
    if (!stats) return tl::unexpected(stats.error());
    return {};
  }

 private:
  const Layout layout_;
  const std::shared_ptr<aio::SimulatorControl> control_;
  const Scratch scratch_;
  std::unique_ptr<pinned_pool::Pool> pool_;
  std::unique_ptr<aio::Engine> engine_;
  std::unique_ptr<TileStore> store_;
};

}  // namespace spillway::swapper
