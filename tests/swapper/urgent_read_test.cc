// Which of a store's transfers reach the device first.
#include <gtest/gtest.h>
#include <spillway/swapper/ram_tier.h>
#include <spillway/swapper/split_tier.h>

#include <future>

#include "store_fixture.h"
#include "support/gated_backend.h"

namespace spillway::swapper {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kBlock = 4096;
constexpr std::uint32_t kDepth = 8;
constexpr std::uint64_t kElements = 16 * kBlock;  // a tile is 16 operations
constexpr TileId kTiles = 8;

class UrgentReadTest : public testing::Test {
 protected:
  UrgentReadTest() {
    auto engine = aio::Engine::create({.block_size_bytes = kBlock, .queue_depth = kDepth},
                                      std::make_unique<aio::GatedFactory>(gate_));
    EXPECT_TRUE(engine) << engine.error().message();
    engine_ = std::move(*engine);
    gate_->open = 1'000'000;
    auto store = TileStore::create(
        *engine_, layout_, std::vector<std::uint64_t>(kTiles, kElements),
        {.directories = {directory_.path()}, .segment_bytes = 1 << 30, .checksums = false});
    EXPECT_TRUE(store) << store.error().message();
    stored_ = store->get();
    auto in_ram = make_ram_tier(layout_, {kElements}, {.lock = pinned_pool::Policy::kOff});
    EXPECT_TRUE(in_ram) << in_ram.error().message();
    std::vector<bool> cached(kTiles + 1);
    cached.back() = true;
    tier_ = make_split_tier(cached, std::move(*in_ram), std::move(*store));
    for (TileId tile = 0; tile < kTiles; ++tile) {
      EXPECT_TRUE(ok(write_tile(*tier_, tile, layout_.all(), tile)));
    }
    gate_->open = 0;
    seen_ = gate_->count();
  }
  ~UrgentReadTest() override { gate_->open = 1'000'000; }

  Transfer read(TileId tile, aio::Priority priority = aio::Priority::kNormal) {
    return tier_->read(tile, layout_.all(), heap_lease(layout_.tile_bytes(kElements)), priority);
  }
  Transfer write(TileId tile) {
    return tier_->write(tile, layout_.all(), heap_lease(layout_.tile_bytes(kElements)));
  }
  // The tile of the nth operation from the start of the test on, which is waited for.
  TileId tile_of_operation(std::size_t nth) {
    for (int i = 0; i < 20'000 && gate_->count() < seen_ + nth; ++i) {
      std::this_thread::sleep_for(1ms);
    }
    const std::lock_guard lock(gate_->mutex);
    EXPECT_GE(gate_->offsets.size(), seen_ + nth);
    return TileId((gate_->offsets.at(seen_ + nth - 1) - stored_->place(0).offset) / kElements);
  }

  const Layout layout_{{{"bytes", 1}}};
  const Scratch directory_;
  const std::shared_ptr<aio::Gate> gate_ = std::make_shared<aio::Gate>();
  std::unique_ptr<aio::Engine> engine_;
  TileStore* stored_ = nullptr;
  std::unique_ptr<Tier> tier_;
  std::size_t seen_ = 0;
};

TEST_F(UrgentReadTest, AnUrgentReadPassesTheWritesThatWait) {
  std::vector<Transfer> before;
  for (TileId tile = 0; tile < 4; ++tile) before.push_back(write(tile));
  EXPECT_EQ(tile_of_operation(kDepth), 0u);
  before.push_back(read(7));
  before.push_back(read(5, aio::Priority::kUrgent));
  EXPECT_EQ(tile_of_operation(kDepth + 1), 5u);
}

TEST_F(UrgentReadTest, AReadThatWaitsIsExpedited) {
  std::vector<Transfer> before;
  for (TileId tile = 0; tile < 4; ++tile) before.push_back(write(tile));
  EXPECT_EQ(tile_of_operation(kDepth), 0u);
  before.push_back(read(7));
  Transfer wanted = read(5);
  wanted.expedite();
  EXPECT_EQ(tile_of_operation(kDepth + 1), 5u);
  gate_->open = 1'000'000;
  EXPECT_TRUE(wanted.wait());
}

TEST_F(UrgentReadTest, WhatHasNoQueueTakesItInItsStride) {
  ASSERT_TRUE(ok(write_tile(*tier_, kTiles, layout_.all(), 77)));
  Transfer resident = read(kTiles, aio::Priority::kUrgent);
  resident.expedite();
  auto lease = resident.wait();
  ASSERT_TRUE(lease);
  EXPECT_TRUE(holds(lease->data(), layout_, kElements, layout_.all(), 77));
  Transfer behind = write(0);
  behind.expedite();  // a write stays in its turn
  EXPECT_EQ(tile_of_operation(kDepth), 0u);
}

TEST_F(UrgentReadTest, ACancelledReadNeverReachesTheDevice) {
  Transfer before = write(0);
  EXPECT_EQ(tile_of_operation(kDepth), 0u);
  Transfer unwanted = read(5);
  unwanted.cancel();
  auto ended = unwanted.wait();  // with the device as busy as before
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().kind, ErrorKind::kCancelled);
  before.cancel();  // a write is not cancelled
  gate_->open = 1'000'000;
  EXPECT_TRUE(before.wait());
  EXPECT_EQ(gate_->count(), seen_ + kElements / kBlock) << "operations of the write alone";
}

TEST_F(UrgentReadTest, TellsWhenATransferIsDone) {
  for (const bool writes : {true, false}) {
    gate_->open = 0;
    Transfer transfer = writes ? write(3) : read(3);
    std::promise<void> done;
    auto told = done.get_future();
    transfer.when_done([&] { done.set_value(); });
    ASSERT_TRUE(gate_->settled());
    EXPECT_EQ(told.wait_for(0s), std::future_status::timeout);
    gate_->open = 1'000'000;
    ASSERT_EQ(told.wait_for(60s), std::future_status::ready);
    EXPECT_TRUE(transfer.done());
    EXPECT_TRUE(transfer.wait());
  }
  // At once, if it is done; and without anybody who waits.
  Transfer resident = write(kTiles);
  bool called = false;
  resident.when_done([&] { called = true; });
  EXPECT_TRUE(called);
  gate_->open = 0;
  std::promise<void> done;
  write(4).when_done([&] { done.set_value(); });
  gate_->open = 1'000'000;
  EXPECT_EQ(done.get_future().wait_for(60s), std::future_status::ready);
}

}  // namespace
}  // namespace spillway::swapper
