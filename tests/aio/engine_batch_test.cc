// Batches, and waiting for a while: what Engine::submit and the tickets' wait_for promise.
#include <gtest/gtest.h>
#include <spillway/aio/completion_queue.h>
#include <spillway/aio/engine.h>
#include <spillway/aio/striped_file.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "support/gated_backend.h"
#include "support/scratch.h"
#include "support/simulator.h"

namespace spillway::aio {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kBlock = 4096;

class EngineBatchTest : public ::testing::Test {
 protected:
  EngineBatchTest() {
    auto file = File::create(scratch_ / "data", {.size_bytes = 256 * kBlock});
    file_.emplace(std::move(*file));
  }
  Engine::Submission block(std::uint64_t number, Engine::Callback callback,
                           Direction direction = Direction::kRead) {
    return {.direction = direction,
            .request = {.file = &*file_, .offset = number * kBlock, .size_bytes = kBlock},
            .buffer = Buffer::allocate(kBlock),
            .callback = std::move(callback)};
  }
  std::unique_ptr<Engine> gated(std::uint32_t depth) {
    auto engine = Engine::create({.block_size_bytes = kBlock, .queue_depth = depth},
                                 std::make_unique<GatedFactory>(gate_));
    EXPECT_TRUE(engine);
    return std::move(*engine);
  }

  Scratch scratch_;
  std::optional<File> file_;
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
};

TEST_F(EngineBatchTest, ReachesTheBackendAtOnceAndInOrder) {
  constexpr std::size_t kRequests = 64;
  const auto queue = std::move(CompletionQueue::create(kRequests).value());
  const auto engine = gated(128);
  std::vector<Engine::Submission> batch;
  for (std::uint64_t i = 0; i < kRequests; ++i) batch.push_back(block(i, queue->callback(i)));
  engine->submit(batch);
  EXPECT_FALSE(batch[0].buffer);
  EXPECT_FALSE(batch[0].callback);
  ASSERT_TRUE(gate_->settled());
  {
    const std::lock_guard lock(gate_->mutex);
    EXPECT_EQ(gate_->batches, std::vector<std::size_t>{kRequests});
    std::vector<std::uint64_t> expected(kRequests);
    for (std::uint64_t i = 0; i < kRequests; ++i) expected[i] = i * kBlock;
    EXPECT_EQ(gate_->offsets, expected);
  }
  gate_->open = kRequests;
  for (std::uint64_t i = 0; i < kRequests; ++i) EXPECT_EQ(queue->wait()->tag, i);
}

// Longer than the engine's queue, with requests among them that end at once.
TEST_F(EngineBatchTest, OfAnyLengthEveryRequestEndsOnceWithItsBytes) {
  auto engine = Engine::create({.block_size_bytes = kBlock, .thread_count = 2});
  ASSERT_TRUE(engine);
  constexpr std::uint64_t kRequests = 3000;
  for (const Direction direction : {Direction::kWrite, Direction::kRead}) {
    const auto queue = std::move(CompletionQueue::create(kRequests).value());
    std::vector<Engine::Submission> batch;
    for (std::uint64_t i = 0; i < kRequests; ++i) {
      batch.push_back(block(i % 256, queue->callback(i), direction));
      if (i % 10 == 9) batch.back().request.size_bytes = 0;
      std::memset(batch.back().buffer.data(), static_cast<int>(i % 256), kBlock);
    }
    (*engine)->submit(batch);
    std::vector<int> seen(kRequests);
    for (std::uint64_t i = 0; i < kRequests; ++i) {
      const auto entry = queue->wait(60s);
      ASSERT_TRUE(entry);
      ++seen[entry->tag];
      const std::size_t expected = entry->tag % 10 == 9 ? 0 : kBlock;
      ASSERT_EQ(entry->completion.transferred.value(), expected);
      if (direction == Direction::kWrite || expected == 0) continue;
      ASSERT_EQ(entry->completion.buffer.data()[kBlock - 1],
                static_cast<std::byte>(entry->tag % 256));
    }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), kRequests);
  }
}

// No more than 1024 are pending: the caller waits for the rest.
TEST_F(EngineBatchTest, OfMoreThanMayBePendingWaitsForRoom) {
  constexpr std::size_t kFirst = 1000, kRequests = kFirst + 64;
  const auto queue = std::move(CompletionQueue::create(kRequests).value());
  const auto engine = gated(1);
  std::vector<Engine::Submission> batch;
  for (std::uint64_t i = 0; i < kRequests; ++i) batch.push_back(block(i % 256, queue->callback(i)));
  engine->submit(std::span(batch).first(kFirst));
  std::atomic<pid_t> thread{0};
  std::atomic<bool> returned{false};
  std::thread submitter([&] {
    thread = ::gettid();
    engine->submit(std::span(batch).subspan(kFirst));
    returned = true;
  });
  // Until it sleeps, and for longer than the engine holds its lock.
  for (int asleep = 0; asleep < 3 && !returned;) {
    std::ifstream stat("/proc/self/task/" + std::to_string(thread) + "/stat");
    std::string number, name, state;
    stat >> number >> name >> state;
    asleep = state == "S" ? asleep + 1 : 0;
    ASSERT_TRUE(gate_->settled());
  }
  EXPECT_FALSE(returned);
  gate_->open = kRequests;
  submitter.join();
  for (std::size_t i = 0; i < kRequests; ++i) ASSERT_TRUE(queue->wait(60s));
}

TEST_F(EngineBatchTest, DeadlinesAndUrgencyAreEachRequestsOwn) {
  const auto queue = std::move(CompletionQueue::create(3).value());
  const auto engine = gated(1);
  std::vector<Engine::Submission> batch;
  for (std::uint64_t i = 0; i < 3; ++i) batch.push_back(block(i, queue->callback(i)));
  batch[1].request.deadline = std::chrono::steady_clock::now() + 1ms;
  batch[2].request.priority = Priority::kUrgent;
  engine->submit(batch);
  const auto late = queue->wait(60s);
  ASSERT_TRUE(late);
  EXPECT_EQ(late->tag, 1u);
  EXPECT_EQ(late->completion.transferred.error().kind, ErrorKind::kDeadline);
  ASSERT_TRUE(gate_->settled());
  const std::lock_guard lock(gate_->mutex);
  ASSERT_GE(gate_->offsets.size(), 1u);
  EXPECT_EQ(gate_->offsets[0], 2 * kBlock);
}

TEST_F(EngineBatchTest, AnEmptyOneIsNothing) {
  const auto engine = gated(1);
  engine->submit({});
  ASSERT_TRUE(gate_->settled());
  EXPECT_EQ(gate_->count(), 0u);
}

TEST_F(EngineBatchTest, WaitForKeepsTheTicket) {
  const auto engine = gated(4);
  Ticket ticket = engine->read({.file = &*file_, .size_bytes = kBlock}, Buffer::allocate(kBlock));
  EXPECT_FALSE(ticket.wait_for(0ms));
  EXPECT_FALSE(ticket.wait_for(2ms));
  ASSERT_TRUE(ticket.valid());
  gate_->open = 1;
  EXPECT_TRUE(ticket.wait_for(std::chrono::nanoseconds::max()));
  EXPECT_TRUE(ticket.wait_for(0ms));
  EXPECT_TRUE(ticket.done());
  Completion completion = ticket.wait();
  EXPECT_EQ(completion.transferred.value(), kBlock);
  EXPECT_TRUE(completion.buffer);
}

TEST_F(EngineBatchTest, AStripedTicketToo) {
  const auto control = std::make_shared<SimulatorControl>();
  auto engine = Engine::create({.block_size_bytes = kBlock}, simulator_backend(control));
  ASSERT_TRUE(engine);
  std::filesystem::create_directory(scratch_ / "a");
  auto file =
      StripedFile::create({engine->get()}, {.directories = {scratch_ / "a"}, .name = "striped"},
                          {.size_bytes = 65536, .stripe_bytes = 65536, .speeds = {1}});
  ASSERT_TRUE(file) << file.error().message();
  control->plan({.kind = FaultKind::kStall});
  StripedTicket ticket = file->read({.size_bytes = kBlock}, Buffer::allocate(kBlock));
  EXPECT_FALSE(ticket.wait_for(2ms));
  ASSERT_TRUE(ticket.valid());
  ticket.cancel();
  EXPECT_TRUE(ticket.wait_for(60s));
  EXPECT_EQ(ticket.wait().transferred.error().kind, ErrorKind::kCancelled);
}

}  // namespace
}  // namespace spillway::aio
