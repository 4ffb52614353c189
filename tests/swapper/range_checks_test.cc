// Tiles verified and recorded range by range, by the compute function of a stream.
#include <gtest/gtest.h>
#include <spillway/swapper/ram_tier.h>
#include <spillway/swapper/split_tier.h>
#include <spillway/swapper/tile_stream.h>

#include <thread>

#include "damage.h"
#include "store_fixture.h"
#include "support/simulator.h"

namespace spillway::swapper {
namespace {

using aio::Direction;
using aio::FaultKind;

const Layout kLayout({{"param_hi", 2}, {"exp_avg", 4}, {"scales", 4, 256}});
constexpr std::uint64_t kElements = 2 * kRangeElements + 100;
constexpr TileId kTiles = 3;

class RangeChecksTest : public testing::Test {
 protected:
  RangeChecksTest() : control_(std::make_shared<aio::SimulatorControl>()) {
    auto engine = aio::Engine::create({.block_size_bytes = 1 << 20, .queue_depth = 8},
                                      aio::simulator_backend(control_));
    EXPECT_TRUE(engine) << engine.error().message();
    engine_ = std::move(*engine);
    auto pool = pinned_pool::Pool::create({.buffer_bytes = kLayout.tile_bytes(kElements),
                                           .buffer_count = 2,
                                           .name = "test",
                                           .huge_pages = pinned_pool::Policy::kOff,
                                           .lock = pinned_pool::Policy::kOff});
    EXPECT_TRUE(pool) << pool.error().message();
    pool_ = std::move(*pool);
    store_ = make_store({});
    for (TileId tile = 0; tile < kTiles; ++tile) {
      EXPECT_TRUE(ok(write_tile(*store_, tile, kLayout.all(), tile)));
    }
  }
  std::unique_ptr<TileStore> make_store(TileStoreOptions options) {
    options.directories = {directory_.path()};
    options.spare_fraction = 1.0;
    auto store = TileStore::create(*engine_, kLayout, std::vector<std::uint64_t>(kTiles, kElements),
                                   options);
    EXPECT_TRUE(store) << store.error().message();
    return std::move(*store);
  }

  Item item(TileId tile, Access access = Access::kReadWrite) {
    return {{.tier = store_.get(),
             .tile = tile,
             .planes = kLayout.all(),
             .access = access,
             .pool = pool_.get(),
             .checksums = Checksums::kInCompute}};
  }
  // Verifies every range of the tile, gives it `version` and records it, on two threads.
  static Result<void> update(const PartView& part, std::uint32_t version) {
    Result<void> outcome[2];
    const auto verify = [&](std::uint64_t first, std::uint64_t count, Result<void>& result) {
      result = part.verify(first, count);
    };
    std::thread tail(verify, 2 * kRangeElements, kElements - 2 * kRangeElements,
                     std::ref(outcome[1]));
    verify(0, 2 * kRangeElements, outcome[0]);
    tail.join();
    for (const Result<void>& result : outcome) {
      if (!result) return result;
    }
    fill(part.plane(0), kLayout, kElements, kLayout.all(), version);
    std::thread head([&] { part.record(0, kRangeElements); });
    part.record(kRangeElements, kElements - kRangeElements);
    head.join();
    return {};
  }
  Result<void> sweep(std::uint32_t first_version) {
    std::vector<Item> items;
    for (TileId tile = 0; tile < kTiles; ++tile) items.push_back(item(tile));
    const auto stats = TileStream::run(items, [&](std::size_t i, auto parts) {
      return update(parts[0], first_version + std::uint32_t(i));
    });
    if (!stats) return tl::unexpected(stats.error());
    return {};
  }
  // One tile through the same path.
  Result<void> visit(TileId tile, const std::function<Result<void>(const PartView&)>& compute,
                     Access access = Access::kReadWrite) {
    const auto stats = TileStream::run(std::vector<Item>{item(tile, access)},
                                       [&](auto, auto parts) { return compute(parts[0]); });
    if (!stats) return tl::unexpected(stats.error());
    return {};
  }
  Result<void> update_one(TileId tile, std::uint32_t version) {
    return visit(tile, [&](const PartView& part) { return update(part, version); });
  }

  const Scratch directory_;
  const std::shared_ptr<aio::SimulatorControl> control_;
  std::unique_ptr<pinned_pool::Pool> pool_;
  std::unique_ptr<aio::Engine> engine_;
  std::unique_ptr<TileStore> store_;
};

TEST_F(RangeChecksTest, WhatIsRecordedIsReadBack) {
  ASSERT_TRUE(ok(sweep(100)));
  ASSERT_TRUE(ok(sweep(200)));
  for (TileId tile = 0; tile < kTiles; ++tile) {
    EXPECT_TRUE(ok(check_tile(*store_, tile, kLayout.all(), 200 + tile)));  // by the whole planes
  }
}

TEST_F(RangeChecksTest, AWrittenPartNeedsNoRead) {
  ASSERT_TRUE(ok(visit(
      1,
      [](const PartView& part) -> Result<void> {
        fill(part.plane(0), kLayout, kElements, kLayout.all(), 55);
        part.record(0, kElements);
        return {};
      },
      Access::kWrite)));
  EXPECT_TRUE(ok(check_tile(*store_, 1, kLayout.all(), 55)));
}

TEST_F(RangeChecksTest, AFlippedBitOfAnyPlaneAndRangeIsFoundAndNamed) {
  for_each_damage(*store_, 1,
                  [&](const Damage& damage) { expect_corrupt(update_one(1, 9), damage.named); });
  EXPECT_TRUE(ok(update_one(1, 9)));
}

TEST_F(RangeChecksTest, LiesOfTheDeviceAreFound) {
  struct Lie {
    FaultKind kind;
    Direction direction;
  };
  std::uint32_t version = 100;
  for (const Lie lie :
       {Lie{FaultKind::kTear, Direction::kWrite}, Lie{FaultKind::kLoseWrite, Direction::kWrite},
        Lie{FaultKind::kMisdirect, Direction::kRead}, Lie{FaultKind::kMisdirect, Direction::kWrite},
        Lie{FaultKind::kFlipBit, Direction::kRead}}) {
    SCOPED_TRACE(int(lie.kind));
    ASSERT_TRUE(ok(write_tile(*store_, 1, kLayout.all(), ++version)));
    control_->plan({.kind = lie.kind, .direction = lie.direction, .keep_bytes = 4096});
    auto updated = update_one(1, ++version);
    if (lie.direction == Direction::kWrite) {
      ASSERT_TRUE(ok(updated));  // nobody can know yet
      updated = update_one(1, ++version);
    }
    expect_corrupt(updated, "tile 1, plane ");
    control_->clear();
    for (const TileId tile : {0, 2}) {
      ASSERT_TRUE(ok(write_tile(*store_, tile, kLayout.all(), tile)));
    }
  }
}

// The bytes of the generation before, in the place of the present one.
TEST_F(RangeChecksTest, AStaleGenerationIsFound) {
  const auto before = store_->place(1);
  ASSERT_TRUE(ok(store_->keep_generation(1)));
  ASSERT_TRUE(ok(update_one(1, 1)));  // the same bytes, of the next generation
  const auto after = store_->place(1);
  EXPECT_NE(before.offset, after.offset);
  EXPECT_EQ(after.generation, before.generation + 1);
  EXPECT_TRUE(ok(check_tile(*store_, 1, kLayout.all(), 1)));
  store_->roll_back(1);
  EXPECT_EQ(store_->place(1).offset, before.offset);
  EXPECT_TRUE(ok(update_one(1, 8)));
  ASSERT_TRUE(ok(store_->keep_generation(1)));
  ASSERT_TRUE(ok(update_one(1, 9)));
  const auto present = store_->place(1);
  std::vector<char> bytes(kLayout.tile_bytes(kElements));
  std::fstream file(before.path, std::ios::in | std::ios::out | std::ios::binary);
  ASSERT_EQ(before.path, present.path);
  file.seekg(std::streamoff(before.offset)).read(bytes.data(), std::streamsize(bytes.size()));
  file.seekp(std::streamoff(present.offset)).write(bytes.data(), std::streamsize(bytes.size()));
  ASSERT_TRUE(file.flush());
  expect_corrupt(update_one(1, 10), "tile 1, plane param_hi");
}

TEST_F(RangeChecksTest, AComputeThatStopsLeavesTheOldTile) {
  const auto stopped = visit(1, [](const PartView& part) -> Result<void> {
    if (auto verified = part.verify(0, kElements); !verified) return verified;
    fill(part.plane(0), kLayout, kElements, kLayout.all(), 77);
    part.record(0, kRangeElements);
    return make_error(ErrorKind::kCancelled, "update", "", "stopped");
  });
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().kind, ErrorKind::kCancelled);
  EXPECT_TRUE(ok(check_tile(*store_, 1, kLayout.all(), 1)));
  EXPECT_TRUE(ok(update_one(1, 2)));
}

TEST_F(RangeChecksTest, WhereNothingIsCheckedTheCallsDoNothing) {
  const auto twice = [](const PartView& part) -> Result<void> {
    part.record(1, 2);  // no range at all
    return part.verify(1, 2);
  };
  store_.reset();
  store_ = make_store({.checksums = false});
  ASSERT_TRUE(ok(write_tile(*store_, 1, kLayout.all(), 1)));
  EXPECT_TRUE(ok(visit(1, twice)));
  auto ram = make_ram_tier(kLayout, {kElements}, {.lock = pinned_pool::Policy::kOff});
  ASSERT_TRUE(ram);
  const Item resident{{.tier = ram->get(),
                       .planes = kLayout.all(),
                       .access = Access::kReadWrite,
                       .checksums = Checksums::kInCompute}};
  EXPECT_TRUE(TileStream::run(std::vector<Item>{resident},
                              [&](auto, auto parts) { return twice(parts[0]); }));
}

TEST_F(RangeChecksTest, ATileBehindACacheIsChecked) {
  auto ram = make_ram_tier(kLayout, {kElements}, {.lock = pinned_pool::Policy::kOff});
  ASSERT_TRUE(ram);
  TileStore* const stored = store_.get();
  const auto split =
      make_split_tier({true, false, false, false}, std::move(*ram), std::move(store_));
  flip_byte(stored->place(1).path, stored->place(1).offset);
  Item behind = {{.tier = split.get(),
                  .tile = 2,
                  .planes = kLayout.all(),
                  .pool = pool_.get(),
                  .checksums = Checksums::kInCompute}};
  const auto stats = TileStream::run(
      std::vector<Item>{behind}, [&](auto, auto parts) { return parts[0].verify(0, kElements); });
  ASSERT_FALSE(stats);
  EXPECT_EQ(stats.error().kind, ErrorKind::kCorrupt);
}

using RangeChecksDeathTest = RangeChecksTest;

// What the PartViews of a stream call; the I/O is done before the process forks.
TEST_F(RangeChecksDeathTest, EveryRangeIsVerifiedAndRecordedOnce) {
  const auto use = [&](auto&& compute) {
    const auto checks = store_->range_checks(1, kLayout.all());
    auto lease =
        checks->read(heap_lease(kLayout.tile_bytes(kElements)), aio::Priority::kNormal).wait();
    ASSERT_TRUE(lease) << lease.error().message();
    compute(*checks, *lease);
  };
  const ElementRange all{.first = 0, .count = kElements};
  const ElementRange second{.first = kRangeElements, .count = kRangeElements};
  use([&](RangeChecks& checks, pinned_pool::Lease& lease) {
    EXPECT_DEATH(checks.record(lease.data(), all), "verified before");
    ASSERT_TRUE(ok(checks.verify(lease.data(), all)));
    EXPECT_DEATH((void)checks.write(std::move(lease)), "was not recorded");
    checks.record(lease.data(), {.first = 0, .count = 2 * kRangeElements});
    EXPECT_DEATH((void)checks.write(std::move(lease)), "was not recorded");
    EXPECT_DEATH(checks.record(lease.data(), second), "recorded once");
    EXPECT_DEATH((void)checks.verify(lease.data(), second), "not what was read");
  });
  use([&](RangeChecks& checks, pinned_pool::Lease& lease) {
    for (const ElementRange wrong :
         {ElementRange{.first = 1, .count = kRangeElements}, ElementRange{.first = 0, .count = 100},
          ElementRange{.first = 0, .count = kElements + 1}}) {
      EXPECT_DEATH((void)checks.verify(lease.data(), wrong), "whole kRangeElements");
    }
  });
}

}  // namespace
}  // namespace spillway::swapper
