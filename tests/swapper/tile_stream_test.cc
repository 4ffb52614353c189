#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/swapper/ram_tier.h>
#include <spillway/swapper/tile_stream.h>

#include <atomic>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "manual_tier.h"

namespace spillway::swapper {
namespace {

using testing::ElementsAre;

constexpr std::uint64_t kElements = 1000;
const Layout kLayout({{"a", 4}, {"b", 4}});

std::unique_ptr<pinned_pool::Pool> make_pool(std::size_t buffers) {
  auto pool = pinned_pool::Pool::create({.buffer_bytes = kLayout.tile_bytes(kElements),
                                         .buffer_count = buffers,
                                         .name = "test",
                                         .huge_pages = pinned_pool::Policy::kOff,
                                         .lock = pinned_pool::Policy::kOff});
  EXPECT_TRUE(pool) << pool.error().message();
  return std::move(*pool);
}

std::vector<Item> one_part_items(Tier& tier, pinned_pool::Pool* pool, Access access) {
  std::vector<Item> items;
  for (TileId tile = 0; tile < tier.tile_count(); ++tile) {
    items.push_back({{.tier = &tier,
                      .tile = tile,
                      .planes = tier.layout().all(),
                      .access = access,
                      .pool = pool}});
  }
  return items;
}

std::uint32_t& first_value(std::byte* plane) { return *reinterpret_cast<std::uint32_t*>(plane); }

class TileStreamTest : public testing::Test {
 protected:
  static constexpr TileId kTiles = 10;
  TileStreamTest() : tier_(kLayout, std::vector<std::uint64_t>(kTiles, kElements)) {
    for (TileId tile = 0; tile < kTiles; ++tile) first_value(tier_.plane(tile, 0)) = tile;
  }
  // Adds 100 to plane a and puts the item's number into plane b.
  static Result<void> compute(std::size_t item, std::span<const PartView> parts) {
    EXPECT_EQ(parts[0].elements(), kElements);
    EXPECT_EQ(first_value(parts[0].plane(0)), item);
    first_value(parts[0].plane(0)) += 100;
    first_value(parts[0].plane(1)) = std::uint32_t(item);
    return {};
  }
  void expect_all_updated() {
    for (TileId tile = 0; tile < kTiles; ++tile) {
      EXPECT_EQ(first_value(tier_.plane(tile, 0)), tile + 100);
      EXPECT_EQ(first_value(tier_.plane(tile, 1)), tile);
    }
  }
  ManualTier tier_;
};

TEST_F(TileStreamTest, UpdatesEveryTileWhateverTheNumberOfBuffers) {
  for (const bool at_once : {false, true}) {
    for (const std::size_t buffers : {1, 2, 3, 7, 40}) {
      ManualTier tier(kLayout, std::vector<std::uint64_t>(kTiles, kElements));
      for (TileId tile = 0; tile < kTiles; ++tile) first_value(tier.plane(tile, 0)) = tile;
      tier.finish_at_once = at_once;
      const auto pool = make_pool(buffers);
      const auto items = one_part_items(tier, pool.get(), Access::kReadWrite);
      const auto stats = TileStream::run(items, &TileStreamTest::compute);
      ASSERT_TRUE(stats) << stats.error().message();
      for (TileId tile = 0; tile < kTiles; ++tile) {
        EXPECT_EQ(first_value(tier.plane(tile, 0)), tile + 100);
      }
      EXPECT_EQ(pool->available(), buffers);
      EXPECT_EQ(tier.in_flight, 0);
      EXPECT_LE(std::size_t(tier.most_in_flight), buffers);
    }
  }
}

TEST_F(TileStreamTest, ReadsAheadAndWritesBehind) {
  const auto pool = make_pool(3);
  const auto items = one_part_items(tier_, pool.get(), Access::kReadWrite);
  ASSERT_TRUE(TileStream::run(std::span(items).first(4), &TileStreamTest::compute));
  EXPECT_THAT(tier_.log,
              ElementsAre("read 0", "read 1", "read 2",  // as far as buffers go
                          "end read 0", "write 0", "end read 1", "write 1", "end read 2", "write 2",
                          "end write 0", "read 3",  // back-pressure: the oldest first
                          "end read 3", "write 3", "end write 1", "end write 2", "end write 3"));
}

TEST_F(TileStreamTest, AccessDecidesWhatIsMoved) {
  const auto pool = make_pool(2);
  auto reads = one_part_items(tier_, pool.get(), Access::kRead);
  ASSERT_TRUE(TileStream::run(std::span(reads).first(1), &TileStreamTest::compute));
  auto writes = one_part_items(tier_, pool.get(), Access::kWrite);
  ASSERT_TRUE(TileStream::run(std::span(writes).subspan(1, 1), [](auto, auto parts) {
    first_value(parts[0].plane(0)) = 42;
    return Result<void>{};
  }));
  EXPECT_THAT(tier_.log, ElementsAre("read 0", "end read 0", "write 1", "end write 1"));
  EXPECT_EQ(first_value(tier_.plane(0, 0)), 0u);  // changes of a part that is only read are lost
  EXPECT_EQ(first_value(tier_.plane(1, 0)), 42u);
}

TEST_F(TileStreamTest, ResidentPartsAreUsedInPlaceWithoutAPool) {
  for (TileId tile = 0; tile < kTiles; ++tile) tier_.resident_tiles.insert(tile);
  const auto items = one_part_items(tier_, nullptr, Access::kReadWrite);
  ASSERT_TRUE(TileStream::run(items, &TileStreamTest::compute));
  expect_all_updated();
  EXPECT_TRUE(tier_.log.empty());
}

TEST_F(TileStreamTest, MixesResidentAndMovedParts) {
  for (const TileId tile : {0, 3, 4, 9}) tier_.resident_tiles.insert(tile);
  const auto pool = make_pool(2);
  const auto items = one_part_items(tier_, pool.get(), Access::kReadWrite);
  ASSERT_TRUE(TileStream::run(items, &TileStreamTest::compute));
  expect_all_updated();
  EXPECT_EQ(std::ranges::count(tier_.log, "read 3"), 0);
  EXPECT_EQ(std::ranges::count(tier_.log, "read 5"), 1);
}

TEST_F(TileStreamTest, PartsOfSeveralTiersAndPlaneRanges) {
  ManualTier other(kLayout, std::vector<std::uint64_t>(kTiles, kElements));
  const auto pool = make_pool(3);  // an item takes three: nothing is read ahead, nothing hangs
  std::vector<Item> items;
  for (TileId tile = 0; tile < kTiles; ++tile) {
    items.push_back({{&tier_, tile, {.first = 0, .count = 1}, Access::kRead, pool.get()},
                     {&tier_, tile, {.first = 1, .count = 1}, Access::kWrite, pool.get()},
                     {&other, tile, {.first = 1, .count = 1}, Access::kReadWrite, pool.get()}});
  }
  ASSERT_TRUE(TileStream::run(items, [](auto, std::span<const PartView> parts) {
    const std::uint32_t value = first_value(parts[0].plane(0));
    first_value(parts[1].plane(1)) = 10 + value;
    first_value(parts[2].plane(1)) += 20 + value;
    return Result<void>{};
  }));
  for (TileId tile = 0; tile < kTiles; ++tile) {
    EXPECT_EQ(first_value(tier_.plane(tile, 0)), tile);
    EXPECT_EQ(first_value(tier_.plane(tile, 1)), 10 + tile);
    EXPECT_EQ(first_value(other.plane(tile, 0)), 0u);
    EXPECT_EQ(first_value(other.plane(tile, 1)), 20 + tile);
  }
}

TEST_F(TileStreamTest, ThePartOfAPlaneOutsideTheRangeIsRefused) {
  const auto run = [&] {
    const auto pool = make_pool(1);  // the child's own
    const Part part{&tier_, 0, {.first = 1, .count = 1}, Access::kRead, pool.get()};
    (void)TileStream::run(std::vector<Item>{{part}}, [](auto, auto parts) {
      (void)parts[0].plane(0);
      return Result<void>{};
    });
  };
  EXPECT_DEATH(run(), "not in the part's range");
}

Error error_named(const std::string& detail, ErrorKind kind = ErrorKind::kIo) {
  return {.kind = kind, .operation = "test", .path = {}, .detail = detail};
}

TEST_F(TileStreamTest, AFailedReadEndsTheRunAfterWhatIsInFlight) {
  tier_.on_start = [](const std::string& what) -> std::optional<Error> {
    if (what == "read 4" || what == "read 5") return error_named(what);
    return std::nullopt;
  };
  const auto pool = make_pool(3);
  const auto items = one_part_items(tier_, pool.get(), Access::kReadWrite);
  const auto stats = TileStream::run(items, &TileStreamTest::compute);
  ASSERT_FALSE(stats);
  EXPECT_EQ(stats.error().detail, "read 4");  // the first
  EXPECT_EQ(tier_.in_flight, 0);
  EXPECT_EQ(pool->available(), 3u);
  EXPECT_EQ(std::ranges::count(tier_.log, "read 7"), 0);
  for (TileId tile = 0; tile < 4; ++tile) {  // what was computed before is in its tier
    EXPECT_EQ(first_value(tier_.plane(tile, 0)), tile + 100);
  }
  EXPECT_EQ(first_value(tier_.plane(4, 0)), 4u);
}

TEST_F(TileStreamTest, AFailedWriteEndsTheRunEvenWhenItIsTheLast) {
  for (const std::string failing : {"write 0", "write 6", "write 9"}) {
    for (const std::size_t buffers : {1, 4, 20}) {
      ManualTier tier(kLayout, std::vector<std::uint64_t>(kTiles, kElements));
      for (TileId tile = 0; tile < kTiles; ++tile) first_value(tier.plane(tile, 0)) = tile;
      tier.on_start = [&](const std::string& what) -> std::optional<Error> {
        if (what == failing) return error_named(what);
        return std::nullopt;
      };
      const auto pool = make_pool(buffers);
      const auto items = one_part_items(tier, pool.get(), Access::kReadWrite);
      const auto stats = TileStream::run(items, &TileStreamTest::compute);
      ASSERT_FALSE(stats) << failing << " with " << buffers;
      EXPECT_EQ(stats.error().detail, failing);
      EXPECT_EQ(pool->available(), buffers);
    }
  }
}

TEST_F(TileStreamTest, AFailedComputeWritesNothingOfItsItem) {
  const auto pool = make_pool(3);
  const auto items = one_part_items(tier_, pool.get(), Access::kReadWrite);
  const auto stats = TileStream::run(items, [](std::size_t item, auto parts) -> Result<void> {
    if (item == 5) return tl::unexpected(error_named("compute"));
    return compute(item, parts);
  });
  ASSERT_FALSE(stats);
  EXPECT_EQ(stats.error().detail, "compute");
  EXPECT_EQ(pool->available(), 3u);
  EXPECT_EQ(first_value(tier_.plane(4, 0)), 104u);
  EXPECT_EQ(first_value(tier_.plane(5, 0)), 5u);
}

TEST_F(TileStreamTest, AnExceptionOfComputePassesAndGivesTheBuffersBack) {
  const auto pool = make_pool(3);
  const auto items = one_part_items(tier_, pool.get(), Access::kReadWrite);
  EXPECT_THROW((void)TileStream::run(items,
                                     [](std::size_t item, auto parts) {
                                       if (item == 5) throw std::runtime_error("stop");
                                       return compute(item, parts);
                                     }),
               std::runtime_error);
  EXPECT_EQ(pool->available(), 3u);
  EXPECT_EQ(tier_.in_flight, 0);
}

// Two streams that need two buffers an item share a pool of three: one of them always finds two.
TEST_F(TileStreamTest, StreamsThatShareAPoolDoNotDeadlock) {
  const auto pool = make_pool(3);
  const auto sweep = [&](int* updated) {
    ManualTier tier(kLayout, std::vector<std::uint64_t>(kTiles, kElements));
    std::vector<Item> items;
    for (TileId tile = 0; tile < kTiles; ++tile) {
      items.push_back({{&tier, tile, {.first = 0, .count = 1}, Access::kReadWrite, pool.get()},
                       {&tier, tile, {.first = 1, .count = 1}, Access::kReadWrite, pool.get()}});
    }
    for (int round = 0; round < 20; ++round) {
      const auto stats = TileStream::run(items, [&](auto, auto parts) {
        ++first_value(parts[0].plane(0));
        ++first_value(parts[1].plane(1));
        return Result<void>{};
      });
      EXPECT_TRUE(stats);
    }
    for (TileId tile = 0; tile < kTiles; ++tile) {
      *updated += first_value(tier.plane(tile, 0)) == 20 && first_value(tier.plane(tile, 1)) == 20;
    }
  };
  int first = 0;
  int second = 0;
  std::thread other(sweep, &second);
  sweep(&first);
  other.join();
  EXPECT_EQ(first, int(kTiles));
  EXPECT_EQ(second, int(kTiles));
  EXPECT_EQ(pool->available(), 3u);
}

TEST_F(TileStreamTest, WaitsForBuffersThatOthersHold) {
  const auto pool = make_pool(1);
  const auto items = one_part_items(tier_, pool.get(), Access::kReadWrite);
  pinned_pool::Lease taken = pool->acquire();
  std::thread holder([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const pinned_pool::Lease given_back = std::move(taken);
  });
  const auto stats = TileStream::run(items, &TileStreamTest::compute);
  holder.join();
  ASSERT_TRUE(stats);
  EXPECT_GE(stats->write_wait_seconds, 0.03);
  expect_all_updated();
}

TEST_F(TileStreamTest, TellsComputingFromWaiting) {
  const auto pool = make_pool(2);
  const auto items = one_part_items(tier_, pool.get(), Access::kReadWrite);
  const auto stats = TileStream::run(items, [](std::size_t item, auto parts) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return compute(item, parts);
  });
  ASSERT_TRUE(stats);
  EXPECT_GE(stats->compute_seconds, 0.050);
  EXPECT_LT(stats->read_wait_seconds + stats->write_wait_seconds, 0.5 * stats->compute_seconds);
}

TEST_F(TileStreamTest, TellsOfEachItemOnceWhenItIsWritten) {
  const auto pool = make_pool(3);
  auto items = one_part_items(tier_, pool.get(), Access::kReadWrite);
  items[4][0].access = Access::kRead;  // nothing to write: told after its compute
  std::vector<std::size_t> computed, written;
  const auto compute = [&](std::size_t item, std::span<const PartView>) {
    computed.push_back(item);
    return Result<void>{};
  };
  ASSERT_TRUE(TileStream::run(items, compute, [&](std::size_t item) {
    EXPECT_THAT(computed, testing::Contains(item));
    if (item != 4) {
      EXPECT_EQ(tier_.log.back(), "end write " + std::to_string(item));
    }
    written.push_back(item);
  }));
  EXPECT_THAT(written, testing::UnorderedElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
}

TEST_F(TileStreamTest, NoItemsIsNoWork) {
  const auto stats = TileStream::run({}, &TileStreamTest::compute);
  ASSERT_TRUE(stats);
  EXPECT_EQ(stats->compute_seconds, 0);
}

TEST_F(TileStreamTest, ForEachTileVisitsAllPlanesOfEachInOrder) {
  const auto pool = make_pool(2);
  std::vector<TileId> visited;
  const auto stats = TileStream::for_each_tile(
      tier_, Access::kReadWrite, *pool, [&](TileId tile, const PartView& planes) {
        visited.push_back(tile);
        ASSERT_EQ(planes.values<std::uint32_t>(0).size(), kElements);
        EXPECT_EQ(planes.values<std::uint32_t>(0).front(), tile);
        planes.values<std::uint32_t>(0).front() += 100;
        planes.values<std::uint32_t>(1).front() = tile;
        planes.values<float>(1).back() = 1.5F;
      });
  ASSERT_TRUE(stats) << stats.error().message();
  EXPECT_THAT(visited, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  expect_all_updated();
  const auto* plane = reinterpret_cast<const float*>(tier_.plane(9, 1));
  EXPECT_EQ(plane[kElements - 1], 1.5F);
}

using TileStreamDeathTest = TileStreamTest;

TEST_F(TileStreamDeathTest, RefusesWhatCouldHangOrRace) {
  const auto pool = make_pool(1);
  const auto run = [](const std::vector<Item>& items) {
    (void)TileStream::run(items, [](auto, auto) { return Result<void>{}; });
  };
  const Part part{&tier_, 0, kLayout.all(), Access::kReadWrite, pool.get()};
  Part other = part;
  other.tile = 1;
  EXPECT_DEATH(run({{part, other}}), "exceed the buffers");
  EXPECT_DEATH(run({{part}, {part}}), "one item only");
  Part reader = part;
  reader.planes = {.first = 1, .count = 1};
  reader.access = Access::kRead;
  EXPECT_DEATH(run({{part}, {other}, {reader}}), "one item only");
  EXPECT_DEATH(run({{reader}, {other}, {part}}), "one item only");
  run({{reader}, {reader}});
  Part no_pool = part;
  no_pool.pool = nullptr;
  EXPECT_DEATH(run({{no_pool}}), "needs a pool");
  ManualTier larger(kLayout, {kElements * 2});
  EXPECT_DEATH(run({{{&larger, 0, kLayout.all(), Access::kRead, pool.get()}}}), "does not fit");
  EXPECT_DEATH(run({{Part{}}}), "planes of a tier");
}

TEST_F(TileStreamDeathTest, APartShowsItsOwnPlanesAndElements) {
  const auto look = [&](auto&& at) {
    const auto pool = make_pool(1);  // the child's own
    const Part part{&tier_, 0, {.first = 1, .count = 1}, Access::kRead, pool.get()};
    (void)TileStream::run(std::vector<Item>{{part}}, [&](auto, auto parts) {
      at(parts[0]);
      return Result<void>{};
    });
  };
  look([](const PartView& part) { EXPECT_NE(part.plane(1), nullptr); });
  EXPECT_DEATH(look([](const PartView& part) { part.plane(0); }), "not in the part's range");
  EXPECT_DEATH(look([](const PartView& part) { part.values<double>(1); }), "of another size");
}

}  // namespace
}  // namespace spillway::swapper
