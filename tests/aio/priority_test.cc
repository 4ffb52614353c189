// What goes first: urgent requests, then reads and writes mixed by how much of either waits.
#include <gtest/gtest.h>
#include <spillway/aio/engine.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "request_lists.h"
#include "support/scratch.h"

namespace spillway::aio {
namespace {

using namespace std::chrono_literals;

// A Backend that completes nothing until told, and records what it is given.
struct Gate {
  std::mutex mutex;
  std::vector<std::uint64_t> offsets;  // of all operations, in order
  std::atomic<std::uint32_t> open{0};  // operations that may still complete

  std::size_t count() {
    std::lock_guard lock(mutex);
    return offsets.size();
  }
};

class GatedBackend final : public Backend {
 public:
  GatedBackend(std::shared_ptr<Gate> gate, std::uint32_t depth)
      : gate_(std::move(gate)), depth_(depth) {}
  const char* name() const noexcept override { return "gated"; }
  std::size_t submit(std::span<const Operation> operations) override {
    std::lock_guard lock(gate_->mutex);
    std::size_t taken = 0;
    while (taken < operations.size() && held_.size() < depth_) {
      gate_->offsets.push_back(operations[taken].offset);
      held_.push_back(operations[taken++]);
    }
    return taken;
  }
  std::size_t reap(std::span<Event> events, std::chrono::nanoseconds timeout) override {
    const auto until =
        std::chrono::steady_clock::now() + std::min<std::chrono::nanoseconds>(timeout, 1h);
    while (!woken_.exchange(false)) {
      std::size_t n = 0;
      while (n < events.size() && !held_.empty() && gate_->open > 0) {
        --gate_->open;
        events[n++] = {held_.front().user_data,
                       static_cast<std::int32_t>(held_.front().size_bytes)};
        held_.erase(held_.begin());
      }
      if (n > 0) return n;
      if (std::chrono::steady_clock::now() >= until) return 0;
      std::this_thread::sleep_for(100us);
    }
    return 0;
  }
  void cancel_all() override { gate_->open = 1'000'000; }
  void cancel(std::uint64_t) override {}
  void wake() noexcept override { woken_ = true; }
  Result<void> register_memory(std::span<std::byte>) override { return {}; }
  void unregister_memory(std::span<std::byte>) override {}
  void register_file(int) override {}
  void unregister_file(int) override {}
  std::uint64_t system_calls() const noexcept override { return 0; }

 private:
  std::shared_ptr<Gate> gate_;
  const std::uint32_t depth_;
  std::vector<Operation> held_;
  std::atomic<bool> woken_{false};
};

class GatedFactory final : public BackendFactory {
 public:
  explicit GatedFactory(std::shared_ptr<Gate> gate) : gate_(std::move(gate)) {}
  Result<std::unique_ptr<Backend>> make(std::uint32_t depth) override {
    return std::make_unique<GatedBackend>(gate_, depth);
  }

 private:
  std::shared_ptr<Gate> gate_;
};

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
  std::this_thread::sleep_for(20ms);
  ASSERT_EQ(gate_->count(), kDepth + 10u);
  for (std::size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(gate_->offsets[kDepth + i], (200 + i) * kBlock);
  }
}

TEST_F(PriorityTest, NormalRequestsKeepToTheQueueDepth) {
  Ticket behind = write(0, 100);
  Ticket also = read(120, 50);
  wait_for(kDepth);
  std::this_thread::sleep_for(20ms);
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
    PendingRequest* next = lists.next_normal();
    ASSERT_NE(next, nullptr);
    reads += next == &read;
    EXPECT_NEAR(reads, 0.7 * i, 1.01) << "after " << i;
    lists.cut(next, kBlock);
  }
  EXPECT_TRUE(lists.empty());
  EXPECT_EQ(lists.normal_bytes(), 0u);
}

}  // namespace
}  // namespace spillway::aio
