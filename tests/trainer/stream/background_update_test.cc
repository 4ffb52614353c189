// The update on its own thread: what it is held back by, what it hands over, how it ends.
#include "trainer/stream/background_update.h"
#include <ATen/Functions.h>
#include <gtest/gtest.h>
#include <spillway/swapper/tile_store.h>
#include <spillway/trainer/failure.h>

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "tests/support/scratch.h"

namespace spillway::trainer {
namespace {

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
                          /*may_go_ahead=*/true});
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
  std::shared_ptr<IncomingUnit> memory() {
    const at::Tensor flat = at::zeros({kTilesPerUnit * kTileElements});
    return std::make_shared<IncomingUnit>(partition_, flat, flat);
  }
  // Adds `addend` to every weight.
  BackgroundUpdate::Compute adding(float addend) {
    return [this, addend](std::size_t item, std::span<const swapper::PartView> parts) {
      computed_.fetch_add(1);
      if (item == failing_item_) {
        return Result<void>(make_error(ErrorKind::kIo, "update", "", "made to fail"));
      }
      if (item == slow_item_) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      for (float& weight : parts[0].values<float>(0)) weight += addend;
      return Result<void>{};
    };
  }
  void start() { update_->start(adding(1), {0, 1, 2}); }
  void wait_until_computed(std::size_t items) {
    while (computed_ < items) std::this_thread::sleep_for(std::chrono::milliseconds(1));
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
  std::atomic<std::size_t> computed_{0};
  std::size_t failing_item_ = ~std::size_t{0};
  std::size_t slow_item_ = ~std::size_t{0};
  std::unique_ptr<BackgroundUpdate> update_;
};

TEST_F(BackgroundUpdateTest, HandsOverWhatItComputedAndIsHeldBackByMemory) {
  start();
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_EQ(computed_, 0u) << "there is no memory for its first unit";
  const auto first = memory();
  ASSERT_TRUE(update_->deliver(0, first));
  first->wait();
  EXPECT_EQ(first->flat()[0].item<float>(), 1);
  EXPECT_EQ(first->flat()[127].item<float>(), 2);
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_EQ(computed_, kTilesPerUnit) << "there is no memory for the second";
  EXPECT_FALSE(update_->deliver(0, memory())) << "too late";
  update_->finish();
  EXPECT_EQ(computed_, items_.size());
  for (swapper::TileId tile = 0; tile < items_.size(); ++tile) EXPECT_EQ(stored(tile), tile + 1);
  EXPECT_FALSE(update_->deliver(1, memory())) << "nothing is being updated";
}

TEST_F(BackgroundUpdateTest, MemoryForALaterUnitLetsItPassTheOnesBefore) {
  start();
  const auto last = memory();
  ASSERT_TRUE(update_->deliver(2, last));
  last->wait();
  EXPECT_EQ(last->flat()[0].item<float>(), 5);
  update_->wait_until_computed();
  EXPECT_EQ(computed_, items_.size());
  update_->finish();
}

TEST_F(BackgroundUpdateTest, WhoeverWaitsForAUnitReadsItsNewBytes) {
  start();
  update_->wait_until_written(1);
  EXPECT_GE(computed_, 2 * kTilesPerUnit);
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
  const auto first = memory();
  const auto second = memory();
  ASSERT_TRUE(update_->deliver(0, first));
  ASSERT_TRUE(update_->deliver(1, second));
  first->wait();
  EXPECT_THROW(second->wait(), Failure);
  EXPECT_THROW(update_->wait_until_written(2), Failure);
  EXPECT_THROW(update_->wait_until_computed(), Failure);
  EXPECT_THROW(update_->finish(), Failure);
}

TEST_F(BackgroundUpdateTest, MayGoWhileItIsHeldBack) {
  BackgroundUpdate going(items_, kUnits);
  going.start([](std::size_t, auto) { return Result<void>{}; }, {});
}

TEST_F(BackgroundUpdateTest, GoesAheadWithWhatIsFinalAndIsKept) {
  update_->start_ahead(adding(1), {2, 1, 0});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(computed_, 0u) << "no gradient is final";
  update_->wait_until_written(2);
  EXPECT_EQ(stored(4), 4) << "what backward reads is as it was";
  update_->unit_final(2);
  wait_until_computed(kTilesPerUnit);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(computed_, kTilesPerUnit);
  EXPECT_FALSE(update_->deliver(2, memory()));
  EXPECT_THROW(update_->wait_until_written(2), Failure) << "used after it was final";

  const auto ahead = update_->start(adding(1), {0, 1, 2});
  EXPECT_EQ(ahead.kept, kTilesPerUnit);
  EXPECT_EQ(ahead.taken_back, 0u);
  EXPECT_FALSE(update_->deliver(2, memory())) << "it is to be read";
  const auto first = memory();
  ASSERT_TRUE(update_->deliver(0, first));
  first->wait();
  EXPECT_EQ(first->flat()[0].item<float>(), 1);
  update_->finish();
  EXPECT_EQ(computed_, items_.size());
  expect_stored({1, 2, 3, 4, 5, 6});
  EXPECT_EQ(store_->generation(0), 0u);
  EXPECT_EQ(store_->generation(4), 1u);
}

TEST_F(BackgroundUpdateTest, WhatWasAheadIsTakenBackAndDoneAgain) {
  for (int step = 1; step <= 3; ++step) {
    computed_ = 0;
    update_->start_ahead(adding(100), {2, 1, 0});
    update_->unit_final(2);
    update_->unit_final(1);
    // The decision comes while tiles are computed, written, or done.
    wait_until_computed(step);
    const auto ahead = update_->start(adding(1), {0, 1, 2}, BackgroundUpdate::Ahead::kTakeBack);
    EXPECT_GE(ahead.taken_back, static_cast<std::size_t>(step));
    EXPECT_EQ(ahead.kept, 0u);
    const auto last = memory();
    ASSERT_TRUE(update_->deliver(2, last)) << "its new weights are still to come";
    last->wait();
    EXPECT_EQ(last->flat()[0].item<float>(), 4 + step);
    update_->wait_until_written(1);
    update_->finish();
    expect_stored({0.f + step, 1.f + step, 2.f + step, 3.f + step, 4.f + step, 5.f + step});
  }
}

// Tiles are computed in the order in which they were read; one that is written when it is taken
// back is read again after others.
TEST_F(BackgroundUpdateTest, WhatWasReadBeforeIsNotInTheWayOfWhatIsWaitedFor) {
  for (UpdateItem& item : items_) item.may_go_ahead = item.unit == 0;
  update_ = std::make_unique<BackgroundUpdate>(items_, kUnits);
  slow_item_ = 1;
  for (int step = 1; step <= 10; ++step) {
    computed_ = 0;
    update_->start_ahead(adding(100), {0, 1, 2});
    update_->unit_final(0);
    wait_until_computed(2);  // the second tile, that is, has begun
    update_->start(adding(1), {0, 1, 2}, BackgroundUpdate::Ahead::kTakeBack);
    const auto first = memory();
    ASSERT_TRUE(update_->deliver(0, first));
    first->wait();
    EXPECT_EQ(first->flat()[0].item<float>(), step);
    update_->finish();
  }
}

TEST_F(BackgroundUpdateTest, AnUpdateAheadThatIsGivenUpChangesNothing) {
  start();
  update_->wait_until_computed();  // its last writes may be under way
  computed_ = 0;
  update_->start_ahead(adding(100), {2, 1, 0});
  update_->unit_final(2);
  wait_until_computed(1);
  update_->take_back();
  expect_stored({1, 2, 3, 4, 5, 6});
  update_->take_back();  // nothing
  start();
  update_->finish();
  expect_stored({2, 3, 4, 5, 6, 7});
}

TEST_F(BackgroundUpdateTest, AFailureAheadIsToldWhenItIsDecidedOn) {
  failing_item_ = 4;
  update_->start_ahead(adding(1), {2, 1, 0});
  update_->unit_final(2);
  EXPECT_THROW(
      {
        while (true) {
          update_->wait_until_written(0);
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
      },
      Failure);
  EXPECT_THROW((void)update_->start(adding(1), {0, 1, 2}), Failure);
}

// Steps one after the other, without a pause for their last writes.
TEST_F(BackgroundUpdateTest, StepsFollowEachOtherWhileTheLastTilesAreWritten) {
  for (int step = 0; step < 50; ++step) {
    const bool take_back = step % 3 == 0;
    update_->start_ahead(adding(take_back ? 100 : 1), {2, 0, 1});
    for (const UnitId unit : {2, 0}) update_->unit_final(unit);
    using Ahead = BackgroundUpdate::Ahead;
    update_->start(adding(1), {0, 1, 2}, take_back ? Ahead::kTakeBack : Ahead::kKeep);
    update_->wait_until_computed();
  }
  update_->finish();
  expect_stored({50, 51, 52, 53, 54, 55});
}

}  // namespace
}  // namespace spillway::trainer
