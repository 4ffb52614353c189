// The update on its own thread: what holds it back, what it delivers, how it ends. Its rules by
// themselves: update_plan_test.cc.
#include "trainer/stream/background_update.h"
#include <gtest/gtest.h>
#include <spillway/swapper/tile_store.h>
#include <spillway/trainer/failure.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "tests/support/scratch.h"
#include "tests/trainer/support/host_memory.h"

namespace spillway::trainer {
namespace {

using testing::HostUnit;

constexpr std::uint64_t kTileElements = 64;
constexpr std::size_t kTilesPerUnit = 2;
constexpr std::size_t kUnits = 3;

// Three units of two tiles of fp32 weights, on files; the update adds 1 to every weight.
class BackgroundUpdateTest : public ::testing::Test {
 protected:
  BackgroundUpdateTest() {
    engine_ = *aio::Engine::create({});
    pool_ = *pinned_pool::Pool::create({.buffer_bytes = 4096, .buffer_count = 6, .name = "test"},
                                       engine_.get());
    own_pool_ = *pinned_pool::Pool::create(
        {.buffer_bytes = 4096, .buffer_count = 1, .name = "the test's own"}, engine_.get());
    store_ = *swapper::TileStore::create(
        *engine_, swapper::Layout({{"param", 4}}),
        std::vector<std::uint64_t>(kUnits * kTilesPerUnit, kTileElements),
        {.directories = {scratch_.path()}, .spare_fraction = 1});
    for (UnitId unit = 0; unit < kUnits; ++unit) {
      for (std::size_t tile = 0; tile < kTilesPerUnit; ++tile) {
        const auto id = static_cast<swapper::TileId>(unit * kTilesPerUnit + tile);
        write(id, static_cast<float>(id));
        items_.push_back({unit,
                          tile,
                          {{.tier = store_.get(),
                            .tile = id,
                            .planes = store_->layout().all(),
                            .access = swapper::Access::kReadWrite,
                            .pool = pool_.get()}},
                          /*may_speculate=*/true});
      }
    }
    update_ = std::make_unique<BackgroundUpdate>(items_, kUnits);
  }

  void write(swapper::TileId tile, float value) {
    auto lease = own_pool_->acquire();
    std::fill_n(reinterpret_cast<float*>(lease.data()), kTileElements, value);
    value_or_throw(store_->write(tile, store_->layout().all(), std::move(lease)).wait());
  }
  float stored(swapper::TileId tile) {
    const auto lease =
        value_or_throw(store_->read(tile, store_->layout().all(), own_pool_->acquire()).wait());
    return reinterpret_cast<const float*>(lease.data())[kTileElements - 1];
  }
  // Memory for a unit's weights.
  HostUnit memory() const { return HostUnit(partition_); }
  // Adds `addend` to every weight.
  BackgroundUpdate::Compute adding(float addend) {
    return [this, addend](std::size_t item, std::span<const swapper::PartView> parts) {
      {
        MutexLock lock(mutex_);
        ++computed_;
        changed_.notify_all();
        while (item == held_item_) changed_.wait(lock);
      }
      if (item == failing_item_) {
        return Result<void>(make_error(ErrorKind::kIo, "update", "", "made to fail"));
      }
      for (float& weight : parts[0].values<float>(0)) weight += addend;
      return Result<void>{};
    };
  }
  void start() { update_->start(adding(1), {0, 1, 2}); }
  // Until so many items were begun.
  void wait_until_begun(std::size_t items) {
    MutexLock lock(mutex_);
    while (computed_ < items) changed_.wait(lock);
  }
  std::size_t begun() {
    const MutexLock lock(mutex_);
    return computed_;
  }
  // The update can do no more by itself: so many items are begun.
  void expect_held_back_after(std::size_t items, const char* why) {
    update_->wait_until_held_back();
    EXPECT_EQ(begun(), items) << why;
  }
  void count_anew() {
    const MutexLock lock(mutex_);
    computed_ = 0;
  }
  // This item's compute waits for release().
  void hold(std::size_t item) {
    const MutexLock lock(mutex_);
    held_item_ = item;
  }
  void release() {
    const MutexLock lock(mutex_);
    held_item_ = kNoItem;
    changed_.notify_all();
  }
  void expect_stored(const std::vector<float>& weights) {
    for (swapper::TileId tile = 0; tile < weights.size(); ++tile) {
      EXPECT_EQ(stored(tile), weights[tile]) << "tile " << tile;
    }
  }

  const UnitPartition partition_{
      "unit", {{"weight", {2, 64}, kTilesPerUnit* kTileElements}}, 1, 0, kTileElements};
  Scratch scratch_;
  std::unique_ptr<aio::Engine> engine_;
  std::unique_ptr<pinned_pool::Pool> pool_;  // the update's
  std::unique_ptr<pinned_pool::Pool> own_pool_;
  std::unique_ptr<swapper::TileStore> store_;
  std::vector<UpdateItem> items_;
  static constexpr std::size_t kNoItem = ~std::size_t{0};
  std::size_t failing_item_ = kNoItem;
  Mutex mutex_;
  CondVar changed_;
  std::size_t computed_ SPILLWAY_GUARDED_BY(mutex_) = 0;
  std::size_t held_item_ SPILLWAY_GUARDED_BY(mutex_) = kNoItem;
  std::unique_ptr<BackgroundUpdate> update_;
};

TEST_F(BackgroundUpdateTest, DeliversWhatItComputedAndIsHeldBackByMemory) {
  start();
  expect_held_back_after(0, "there is no memory for its first unit");
  const HostUnit first = memory();
  ASSERT_TRUE(update_->deliver(0, first.incoming));
  first.incoming->wait();
  EXPECT_EQ(first.values->front(), 1);
  EXPECT_EQ(first.values->back(), 2);
  expect_held_back_after(kTilesPerUnit, "there is no memory for the second");
  EXPECT_FALSE(update_->deliver(0, memory().incoming)) << "too late";
  update_->finish();
  EXPECT_EQ(begun(), items_.size());
  expect_stored({1, 2, 3, 4, 5, 6});
  EXPECT_FALSE(update_->deliver(1, memory().incoming)) << "nothing is being updated";
}

TEST_F(BackgroundUpdateTest, MemoryForALaterUnitLetsItPassTheOnesBefore) {
  start();
  const HostUnit last = memory();
  ASSERT_TRUE(update_->deliver(2, last.incoming));
  last.incoming->wait();
  EXPECT_EQ(last.values->front(), 5);
  update_->wait_until_computed();
  EXPECT_EQ(begun(), items_.size());
  update_->finish();
}

TEST_F(BackgroundUpdateTest, WhoeverWaitsForAUnitReadsItsNewBytes) {
  start();
  update_->wait_until_written(1);
  EXPECT_GE(begun(), 2 * kTilesPerUnit);
  EXPECT_EQ(stored(2), 3);
  EXPECT_EQ(stored(3), 4);
  update_->wait_until_written(2);
  update_->finish();
  start();  // and once more
  update_->finish();
  EXPECT_EQ(stored(3), 5);
}

TEST_F(BackgroundUpdateTest, WhatEndsItIsToldToAllWhoWait) {
  failing_item_ = 3;
  start();
  const HostUnit first = memory();
  const HostUnit second = memory();
  ASSERT_TRUE(update_->deliver(0, first.incoming));
  ASSERT_TRUE(update_->deliver(1, second.incoming));
  first.incoming->wait();
  EXPECT_THROW(second.incoming->wait(), Failure);
  EXPECT_THROW(update_->wait_until_written(2), Failure);
  EXPECT_THROW(update_->wait_until_computed(), Failure);
  EXPECT_THROW(update_->finish(), Failure);
}

TEST_F(BackgroundUpdateTest, MayGoWhileItIsHeldBack) {
  BackgroundUpdate going(items_, kUnits);
  going.start([](std::size_t, auto) { return Result<void>{}; }, {});
  going.wait_until_held_back();
}

TEST_F(BackgroundUpdateTest, UpdatesFinalUnitsDuringBackwardAndKeepsThem) {
  update_->start_speculative(adding(1), {2, 1, 0});
  expect_held_back_after(0, "no gradient is final");
  update_->wait_until_written(2);
  EXPECT_EQ(stored(4), 4) << "what backward reads is as it was";
  update_->unit_final(2);
  wait_until_begun(kTilesPerUnit);
  expect_held_back_after(kTilesPerUnit, "no other gradient is final");
  EXPECT_FALSE(update_->deliver(2, memory().incoming));
  EXPECT_THROW(update_->wait_until_written(2), Failure) << "used after it was final";

  const auto tiles = update_->start(adding(1), {0, 1, 2});
  EXPECT_EQ(tiles.kept, kTilesPerUnit);
  EXPECT_EQ(tiles.rolled_back, 0u);
  EXPECT_FALSE(update_->deliver(2, memory().incoming)) << "it is to be read";
  const HostUnit first = memory();
  ASSERT_TRUE(update_->deliver(0, first.incoming));
  first.incoming->wait();
  EXPECT_EQ(first.values->front(), 1);
  update_->finish();
  EXPECT_EQ(begun(), items_.size());
  expect_stored({1, 2, 3, 4, 5, 6});
  EXPECT_EQ(store_->generation(0), 0u);
  EXPECT_EQ(store_->generation(4), 1u);
}

TEST_F(BackgroundUpdateTest, RollsSpeculativeUpdatesBackAndDoesThemAgain) {
  for (int step = 1; step <= 3; ++step) {
    count_anew();
    update_->start_speculative(adding(100), {2, 1, 0});
    update_->unit_final(2);
    update_->unit_final(1);
    // The decision comes while tiles are computed, written, or done.
    wait_until_begun(step);
    const auto tiles = update_->start(adding(1), {0, 1, 2}, Verdict::kRollBack);
    EXPECT_GE(tiles.rolled_back, static_cast<std::size_t>(step));
    EXPECT_EQ(tiles.kept, 0u);
    const HostUnit last = memory();
    ASSERT_TRUE(update_->deliver(2, last.incoming)) << "its new weights are still to come";
    last.incoming->wait();
    EXPECT_EQ(last.values->front(), 4 + step);
    update_->wait_until_written(1);
    update_->finish();
    expect_stored({0.f + step, 1.f + step, 2.f + step, 3.f + step, 4.f + step, 5.f + step});
  }
}

// Tiles are computed in the order in which they were read; one that is written when it is rolled
// back is read again after others.
TEST_F(BackgroundUpdateTest, WhatWasReadBeforeIsNotInTheWayOfWhatIsWaitedFor) {
  for (UpdateItem& item : items_) item.may_speculate = item.unit == 0;
  update_ = std::make_unique<BackgroundUpdate>(items_, kUnits);
  for (int step = 1; step <= 10; ++step) {
    count_anew();
    hold(1);
    update_->start_speculative(adding(100), {0, 1, 2});
    update_->unit_final(0);
    wait_until_begun(2);
    update_->start(adding(1), {0, 1, 2}, Verdict::kRollBack);
    const HostUnit first = memory();
    ASSERT_TRUE(update_->deliver(0, first.incoming));
    release();
    first.incoming->wait();
    EXPECT_EQ(first.values->front(), step);
    update_->finish();
  }
}

TEST_F(BackgroundUpdateTest, ASpeculativeUpdateThatIsGivenUpChangesNothing) {
  start();
  update_->wait_until_computed();  // its last writes may be under way
  count_anew();
  update_->start_speculative(adding(100), {2, 1, 0});
  update_->unit_final(2);
  wait_until_begun(1);
  update_->roll_back();
  expect_stored({1, 2, 3, 4, 5, 6});
  update_->roll_back();  // nothing
  start();
  update_->finish();
  expect_stored({2, 3, 4, 5, 6, 7});
}

TEST_F(BackgroundUpdateTest, AFailureIsToldWhenTheUpdateIsDecidedOn) {
  failing_item_ = 4;
  update_->start_speculative(adding(1), {2, 1, 0});
  update_->unit_final(2);
  EXPECT_THROW(update_->wait_until_computed(), Failure);
  EXPECT_THROW(update_->wait_until_written(0), Failure);
  EXPECT_THROW((void)update_->start(adding(1), {0, 1, 2}), Failure);
}

// Steps one after the other, without a pause for their last writes.
TEST_F(BackgroundUpdateTest, StepsFollowEachOtherWhileTheLastTilesAreWritten) {
  for (int step = 0; step < 50; ++step) {
    const bool roll_back = step % 3 == 0;
    update_->start_speculative(adding(roll_back ? 100 : 1), {2, 0, 1});
    for (const UnitId unit : {2, 0}) update_->unit_final(unit);
    update_->start(adding(1), {0, 1, 2}, roll_back ? Verdict::kRollBack : Verdict::kKeep);
    update_->wait_until_computed();
  }
  update_->finish();
  expect_stored({50, 51, 52, 53, 54, 55});
}

}  // namespace
}  // namespace spillway::trainer
