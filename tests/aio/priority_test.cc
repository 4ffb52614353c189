// What goes first: urgent requests, then reads and writes mixed by how much of either waits.
#include <gtest/gtest.h>
#include <spillway/aio/engine.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "request_lists.h"
#include "support/gated_backend.h"
#include "support/scratch.h"

namespace spillway::aio {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kBlock = 4096;
constexpr std::uint32_t kDepth = 8;

class PriorityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto file = File::create(scratch_ / "data", {.size_bytes = 1 << 20});
    ASSERT_TRUE(file) << file.error().message();
    file_.emplace(std::move(*file));
    auto engine = Engine::create({.block_size_bytes = kBlock, .queue_depth = kDepth},
                                 std::make_unique<GatedFactory>(gate_));
    ASSERT_TRUE(engine);
    engine_ = std::move(*engine);
  }
  Ticket write(std::uint64_t block, std::size_t blocks) {
    return engine_->write(
        {.file = &*file_, .offset = block * kBlock, .size_bytes = blocks * kBlock},
        Buffer::allocate(blocks * kBlock));
  }
  Ticket read(std::uint64_t block, std::size_t blocks, Priority priority = Priority::kNormal) {
    return engine_->read({.file = &*file_,
                          .offset = block * kBlock,
                          .size_bytes = blocks * kBlock,
                          .priority = priority},
                         Buffer::allocate(blocks * kBlock));
  }
  void wait_for(std::size_t operations) {
    for (int i = 0; i < 4000 && gate_->count() < operations; ++i) std::this_thread::sleep_for(1ms);
    ASSERT_EQ(gate_->count(), operations);
  }

  Scratch scratch_;
  std::optional<File> file_;
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  std::unique_ptr<Engine> engine_;
};

TEST_F(PriorityTest, AnUrgentReadGoesToTheDeviceThoughTheQueueIsFullOfWrites) {
  Ticket behind = write(0, 100);
  wait_for(kDepth);
  Ticket urgent = read(200, 2, Priority::kUrgent);
  wait_for(kDepth + 2);  // with nothing completed: it did not wait for a place
  EXPECT_EQ(gate_->offsets[kDepth], 200u * kBlock);
  EXPECT_EQ(gate_->offsets[kDepth + 1], 201u * kBlock);
}

TEST_F(PriorityTest, BeyondItsOwnPlacesAnUrgentRequestStillGoesBeforeTheRest) {
  Ticket behind = write(0, 100);
  wait_for(kDepth);
  Ticket urgent = read(200, 10, Priority::kUrgent);
  wait_for(kDepth + Engine::kUrgentDepth);
  gate_->open = 6;
  wait_for(kDepth + 10);
  ASSERT_TRUE(gate_->settled());
  ASSERT_EQ(gate_->count(), kDepth + 10u);
  for (std::size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(gate_->offsets[kDepth + i], (200 + i) * kBlock);
  }
}

TEST_F(PriorityTest, NormalRequestsKeepToTheQueueDepth) {
  Ticket behind = write(0, 100);
  Ticket also = read(120, 50);
  wait_for(kDepth);
  ASSERT_TRUE(gate_->settled());
  EXPECT_EQ(gate_->count(), kDepth);
}

TEST_F(PriorityTest, AReadThatWaitsCanBeExpedited) {
  Ticket behind = write(0, 100);
  wait_for(kDepth);
  Ticket first = read(120, 4);
  Ticket second = read(140, 2);
  second.expedite();
  wait_for(kDepth + 2);
  EXPECT_EQ(gate_->offsets[kDepth], 140u * kBlock);
}

TEST_F(PriorityTest, ReadsAreNotStuckBehindWritesThatCameFirst) {
  Ticket plug = write(0, kDepth);
  wait_for(kDepth);
  Ticket writes = write(20, 40);
  Ticket reads = read(100, 40);
  gate_->open = 20;
  wait_for(kDepth + 20);
  std::size_t read_count = 0;
  for (std::size_t i = kDepth; i < kDepth + 20; ++i)
    read_count += gate_->offsets[i] >= 100 * kBlock;
  EXPECT_EQ(read_count, 10u);
}

TEST(RequestLists, MixReadsAndWritesByWhatWaits) {
  Scratch scratch;
  auto file = File::create(scratch / "x", {});
  ASSERT_TRUE(file);
  RequestLists lists;
  PendingRequest read;
  PendingRequest write;
  read.begin(Direction::kRead, {.file = &*file, .size_bytes = 70 * kBlock}, Buffer(), nullptr);
  write.begin(Direction::kWrite, {.file = &*file, .size_bytes = 30 * kBlock}, Buffer(), nullptr);
  lists.add(&write);
  lists.add(&read);
  int reads = 0;
  for (int i = 1; i <= 100; ++i) {
    PendingRequest* next = lists.next_normal([](const PendingRequest&) { return true; });
    ASSERT_NE(next, nullptr);
    reads += next == &read;
    EXPECT_NEAR(reads, 0.7 * i, 0.75) << "after " << i;
    lists.cut(next, kBlock);
  }
  EXPECT_TRUE(lists.empty());
  EXPECT_EQ(lists.normal_pieces(kBlock), 0u);
}

}  // namespace
}  // namespace spillway::aio
