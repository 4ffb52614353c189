// The update on its own thread: what it is held back by, what it hands over, how it ends.
#include <ATen/Functions.h>
#include <gtest/gtest.h>
#include <spillway/swapper/tile_store.h>
#include <spillway/trainer/background_update.h>
#include <spillway/trainer/failure.h>

#include <chrono>
#include <thread>

#include "../support/scratch.h"

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
    pool_ = *pinned_pool::Pool::create({.buffer_bytes = 4096, .buffer_count = 3, .name = "test"},
                                       engine_.get());
    store_ = *swapper::TileStore::create(
        *engine_, swapper::Layout({{"param", 4}}),
        std::vector<std::uint64_t>(kUnits * kTilesPerUnit, kTileElements),
        {.directories = {scratch_.path()}});
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
                            .pool = pool_.get()}}});
      }
    }
  }

  void write(swapper::TileId tile, float value) {
    auto lease = pool_->acquire();
    std::fill_n(reinterpret_cast<float*>(lease.data()), kTileElements, value);
    value_or_throw(store_->write(tile, store_->layout().all(), std::move(lease)).wait());
  }
  float stored(swapper::TileId tile) {
    const auto lease =
        value_or_throw(store_->read(tile, store_->layout().all(), pool_->acquire()).wait());
    return reinterpret_cast<const float*>(lease.data())[kTileElements - 1];
  }
  // Memory for a unit's weights.
  std::shared_ptr<IncomingUnit> memory() {
    const at::Tensor flat = at::zeros({kTilesPerUnit * kTileElements});
    return std::make_shared<IncomingUnit>(partition_, flat, flat);
  }
  void start() {
    update_.start(items_, [&](std::size_t item, std::span<const swapper::PartView> parts) {
      computed_.fetch_add(1);
      if (item == failing_item_) {
        return Result<void>(make_error(ErrorKind::kIo, "update", "", "made to fail"));
      }
      for (float& weight : parts[0].values<float>(0)) weight += 1;
      return Result<void>{};
    });
  }

  const UnitPartition partition_{
      "unit", {{"weight", {2, 64}, kTilesPerUnit* kTileElements}}, 1, 0, kTileElements};
  Scratch scratch_;
  std::unique_ptr<aio::Engine> engine_;
  std::unique_ptr<pinned_pool::Pool> pool_;
  std::unique_ptr<swapper::TileStore> store_;
  std::vector<UpdateItem> items_;
  std::atomic<std::size_t> computed_{0};
  std::size_t failing_item_ = ~std::size_t{0};
  BackgroundUpdate update_{kUnits};
};

TEST_F(BackgroundUpdateTest, HandsOverWhatItComputedAndIsHeldBackByMemory) {
  start();
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_EQ(computed_, 0u) << "there is no memory for its first unit";
  const auto first = memory();
  ASSERT_TRUE(update_.deliver(0, first));
  first->wait();
  EXPECT_EQ(first->flat()[0].item<float>(), 1);
  EXPECT_EQ(first->flat()[127].item<float>(), 2);
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_EQ(computed_, kTilesPerUnit) << "there is no memory for the second";
  EXPECT_FALSE(update_.deliver(0, memory())) << "too late";
  update_.finish();
  EXPECT_EQ(computed_, items_.size());
  for (swapper::TileId tile = 0; tile < items_.size(); ++tile) EXPECT_EQ(stored(tile), tile + 1);
  EXPECT_FALSE(update_.deliver(1, memory())) << "nothing is being updated";
}

TEST_F(BackgroundUpdateTest, MemoryForALaterUnitLetsItPassTheOnesBefore) {
  start();
  const auto last = memory();
  ASSERT_TRUE(update_.deliver(2, last));
  last->wait();
  EXPECT_EQ(last->flat()[0].item<float>(), 5);
  update_.wait_until_computed();
  EXPECT_EQ(computed_, items_.size());
  update_.finish();
}

TEST_F(BackgroundUpdateTest, WhoeverWaitsForAUnitReadsItsNewBytes) {
  start();
  update_.wait_until_written(1);
  EXPECT_GE(computed_, 2 * kTilesPerUnit);
  EXPECT_EQ(stored(2), 3);
  EXPECT_EQ(stored(3), 4);
  update_.wait_until_computed(2);
  update_.finish();
  start();  // and once more
  update_.finish();
  EXPECT_EQ(stored(3), 5);
}

TEST_F(BackgroundUpdateTest, WhatEndsItIsToldToAllWhoWait) {
  failing_item_ = 3;
  start();
  const auto first = memory();
  const auto second = memory();
  ASSERT_TRUE(update_.deliver(0, first));
  ASSERT_TRUE(update_.deliver(1, second));
  first->wait();
  EXPECT_THROW(second->wait(), Failure);
  EXPECT_THROW(update_.wait_until_written(2), Failure);
  EXPECT_THROW(update_.wait_until_computed(), Failure);
  EXPECT_THROW(update_.finish(), Failure);
}

TEST_F(BackgroundUpdateTest, MayGoWhileItIsHeldBack) {
  BackgroundUpdate going(kUnits);
  going.start(items_, [](std::size_t, auto) { return Result<void>{}; });
}

}  // namespace
}  // namespace spillway::trainer
