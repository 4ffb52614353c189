// One program of updates gives the same bits whatever tier the tiles lie in.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/swapper/ram_tier.h>
#include <spillway/swapper/schedule.h>
#include <spillway/swapper/split_tier.h>
#include <spillway/swapper/tile_store.h>
#include <spillway/swapper/tile_stream.h>

#include <chrono>
#include <numeric>
#include <thread>

#include "store_fixture.h"

namespace spillway::swapper {
namespace {

using testing::HasSubstr;

const Layout kLayout({{"param", 4}, {"exp_avg", 4}});

class StreamOverTiers : public testing::Test {
 protected:
  StreamOverTiers() : elements_(9, 30'000), engine_(make_engine(aio::BackendKind::kAuto)) {
    elements_.insert(elements_.end(), {1, 12'345, 7});
    auto pool = pinned_pool::Pool::create(
        {.buffer_bytes = kLayout.tile_bytes(30'000), .buffer_count = 3, .name = "test"},
        engine_.get());
    EXPECT_TRUE(pool) << pool.error().message();
    pool_ = std::move(*pool);
  }

  std::unique_ptr<Tier> in_ram(std::vector<std::uint64_t> elements) {
    auto tier = make_ram_tier(kLayout, std::move(elements), {.lock = pinned_pool::Policy::kOff});
    EXPECT_TRUE(tier) << tier.error().message();
    return std::move(*tier);
  }
  std::unique_ptr<TileStore> on_disk(std::vector<std::uint64_t> elements) {
    auto store = TileStore::create(*engine_, kLayout, std::move(elements),
                                   {.directories = {scratch_.path()}, .segment_bytes = 1 << 20});
    EXPECT_TRUE(store) << store.error().message();
    return std::move(*store);
  }

  std::vector<Item> items(Tier& tier, Access access) {
    std::vector<Item> items;
    for (TileId tile = 0; tile < tier.tile_count(); ++tile) {
      items.push_back({{&tier, tile, kLayout.all(), access, pool_.get()}});
    }
    return items;
  }

  // Fills all tiles, then updates them `steps` times: exp_avg += param, param += exp_avg / 2.
  Result<void> train(Tier& tier, int steps) {
    auto run = TileStream::run(items(tier, Access::kWrite), [](std::size_t item, auto parts) {
      for (std::uint64_t i = 0; i < parts[0].elements(); ++i) {
        values(parts[0], 0)[i] = std::uint32_t(item * 1'000'003 + i);
        values(parts[0], 1)[i] = 1;
      }
      return Result<void>{};
    });
    for (int step = 0; run && step < steps; ++step) {
      run = TileStream::run(items(tier, Access::kReadWrite), [](auto, auto parts) {
        for (std::uint64_t i = 0; i < parts[0].elements(); ++i) {
          values(parts[0], 1)[i] += values(parts[0], 0)[i];
          values(parts[0], 0)[i] += values(parts[0], 1)[i] / 2;
        }
        return Result<void>{};
      });
    }
    if (!run) return tl::unexpected(run.error());
    return {};
  }

  std::vector<std::uint32_t> all_values(Tier& tier) {
    std::vector<std::uint32_t> all;
    EXPECT_TRUE(TileStream::run(items(tier, Access::kRead), [&](auto, auto parts) {
      for (std::uint32_t plane = 0; plane < 2; ++plane) {
        const std::uint32_t* const start = values(parts[0], plane);
        all.insert(all.end(), start, start + parts[0].elements());
      }
      return Result<void>{};
    }));
    return all;
  }

  static std::uint32_t* values(const PartView& part, std::uint32_t plane) {
    return reinterpret_cast<std::uint32_t*>(part.plane(plane));
  }

  std::vector<std::uint64_t> elements_;
  const Scratch scratch_;
  std::unique_ptr<aio::Engine> engine_;
  std::unique_ptr<pinned_pool::Pool> pool_;
};

// Who waited for whom: with one buffer the drive has nothing to do while a tile is computed.
TEST_F(StreamOverTiers, TellsHowLongTheDriveWaited) {
  const auto store = on_disk(elements_);
  ASSERT_TRUE(ok(train(*store, 0)));
  const auto one = pinned_pool::Pool::create(
      {.buffer_bytes = kLayout.tile_bytes(30'000), .buffer_count = 1, .name = "one"});
  ASSERT_TRUE(one);
  std::vector<Item> alone = items(*store, Access::kReadWrite);
  for (Item& item : alone) item[0].pool = one->get();
  const auto slow = [](auto, auto) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return Result<void>{};
  };
  const auto idle = TileStream::run(alone, slow);
  ASSERT_TRUE(idle);
  EXPECT_GE(idle->drive_idle_seconds, 0.01 * double(elements_.size()));
  EXPECT_GE(idle->seconds, idle->drive_idle_seconds);
  EXPECT_GE(idle->seconds, idle->compute_seconds + idle->read_wait_seconds);
  const auto ram = in_ram(elements_);
  const auto nothing_moved = TileStream::run(items(*ram, Access::kReadWrite), slow);
  ASSERT_TRUE(nothing_moved);
  EXPECT_EQ(nothing_moved->drive_idle_seconds, 0);
}

TEST_F(StreamOverTiers, RamFileAndCacheGiveTheSameBits) {
  const auto ram = in_ram(elements_);
  ASSERT_TRUE(ok(train(*ram, 3)));
  const std::vector<std::uint32_t> expected = all_values(*ram);
  EXPECT_EQ(expected.size(),
            2 * std::accumulate(elements_.begin(), elements_.end(), std::size_t{0}));

  std::vector<TileId> uses(elements_.size());
  std::iota(uses.begin(), uses.end(), TileId{0});
  const Schedule schedule(uses, std::uint32_t(elements_.size()));
  const std::uint64_t all_bytes = on_disk(elements_)->storage_bytes();
  for (const std::uint64_t capacity : {0, 100'000, 1'000'000}) {
    const std::vector<bool> cached = choose_resident(schedule, elements_, capacity);
    std::vector<std::uint64_t> upper;
    std::vector<std::uint64_t> lower;
    for (TileId tile = 0; tile < elements_.size(); ++tile) {
      (cached[tile] ? upper : lower).push_back(elements_[tile]);
    }
    const auto tier = make_split_tier(cached, in_ram(upper), on_disk(lower));
    ASSERT_TRUE(ok(train(*tier, 3)));
    EXPECT_EQ(all_values(*tier), expected);
    // Filled once, updated three times, read once: every pass moves what is not cached, once.
    EXPECT_EQ(tier->stats().written_bytes, 4 * tier->storage_bytes());
    EXPECT_EQ(tier->stats().read_bytes, 4 * tier->storage_bytes());
    if (capacity == 0) {
      EXPECT_EQ(tier->storage_bytes(), all_bytes);
    }
    if (capacity == 1'000'000) {
      EXPECT_EQ(tier->storage_bytes(), 0u);
    }
  }
}

TEST_F(StreamOverTiers, ADamagedTileStopsTheStreamWithItsName) {
  const auto store = on_disk(elements_);
  ASSERT_TRUE(ok(train(*store, 1)));
  const TileStore::Place place = store->place(5);
  flip_byte(place.path, place.offset + kLayout.plane_offset(1, elements_[5]) + 100);
  std::size_t computed = 0;
  const auto run = TileStream::run(items(*store, Access::kReadWrite), [&](auto, auto) {
    ++computed;
    return Result<void>{};
  });
  ASSERT_FALSE(run);
  EXPECT_EQ(run.error().kind, ErrorKind::kCorrupt);
  EXPECT_THAT(run.error().message(), HasSubstr("tile 5, plane exp_avg"));
  EXPECT_THAT(run.error().message(), HasSubstr(place.path));
  EXPECT_EQ(computed, 5u);
  EXPECT_EQ(pool_->available(), 3u);
}

}  // namespace
}  // namespace spillway::swapper
