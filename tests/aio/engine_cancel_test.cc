// Requests that end early: cancelled, late, abandoned. What the kernel still has is awaited before
// the memory is given back. The simulator stalls operations until they are cancelled.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <spillway/aio/engine.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "support/scratch.h"
#include "support/seed.h"
#include "support/simulator.h"

namespace spillway::aio {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr std::uint32_t kBlock = 16384;
constexpr std::size_t kBlocks = 64;

class EngineCancelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto file = File::create(scratch_ / "data", {.size_bytes = kBlocks * kBlock});
    ASSERT_TRUE(file) << file.error().message();
    file_.emplace(std::move(*file));
    auto engine =
        Engine::create({.block_size_bytes = kBlock, .queue_depth = 8, .drain_timeout = 200ms},
                       simulator_backend(control_));
    ASSERT_TRUE(engine) << engine.error().message();
    engine_ = std::move(*engine);
  }
  void TearDown() override { engine_.reset(); }

  Engine::Request blocks(std::size_t count,
                         steady_clock::time_point deadline = Engine::kNoDeadline) {
    return {.file = &*file_, .size_bytes = count * kBlock, .deadline = deadline};
  }
  Buffer counted(std::size_t count) {
    auto release = [](void* owner, std::byte* data, std::size_t) noexcept {
      ++static_cast<EngineCancelTest*>(owner)->released_;
      ::operator delete[](data, std::align_val_t(4096));
    };
    auto* data = static_cast<std::byte*>(::operator new[](count* kBlock, std::align_val_t(4096)));
    return {data, count * kBlock, release, this};
  }
  void wait_for_operations(std::uint64_t n) {
    for (int i = 0; i < 4000 && control_->operations() < n; ++i) std::this_thread::sleep_for(1ms);
    ASSERT_GE(control_->operations(), n);
  }
  void wait_for_releases(int n) {
    for (int i = 0; i < 4000 && released_ < n; ++i) std::this_thread::sleep_for(1ms);
    ASSERT_EQ(released_, n);
  }
  void stall(std::uint64_t nth, bool forever = false) {
    control_->plan({.kind = FaultKind::kStall, .nth = nth, .forever = forever});
  }

  Scratch scratch_;
  std::shared_ptr<SimulatorControl> control_ = std::make_shared<SimulatorControl>();
  std::optional<File> file_;
  std::atomic<int> released_{0};
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineCancelTest, ACancelledRequestEndsWithItsBufferAndWhatItMoved) {
  stall(3, /*forever=*/true);
  Ticket ticket = engine_->read(blocks(40), counted(40));
  wait_for_operations(8);
  EXPECT_FALSE(ticket.done());
  ticket.cancel();
  ticket.cancel();
  Completion done = ticket.wait();
  ASSERT_FALSE(done.transferred);
  EXPECT_EQ(done.transferred.error().kind, ErrorKind::kCancelled);
  EXPECT_EQ(done.transferred.error().got, 2 * kBlock) << done.transferred.error().message();
  EXPECT_TRUE(done.buffer);
  EXPECT_EQ(released_, 0);
  // Not even begun: what was not in flight never went to the device.
  EXPECT_EQ(control_->operations(), 2u + 8u);
}

TEST_F(EngineCancelTest, CancellingWhatHasEndedChangesNothing) {
  Ticket ticket = engine_->read(blocks(4), counted(4));
  while (!ticket.done()) std::this_thread::yield();
  ticket.cancel();
  Completion done = ticket.wait();
  ASSERT_TRUE(done.transferred);
  EXPECT_EQ(*done.transferred, 4u * kBlock);
}

TEST_F(EngineCancelTest, ARequestStillWaitingIsCancelledAtOnce) {
  stall(1, /*forever=*/true);
  Ticket first = engine_->read(blocks(20), counted(20));
  wait_for_operations(8);
  Ticket second = engine_->read(blocks(4), counted(4));
  second.cancel();
  EXPECT_TRUE(second.done());
  Completion done = second.wait();
  ASSERT_FALSE(done.transferred);
  EXPECT_EQ(done.transferred.error().got, 0u);
  EXPECT_TRUE(done.buffer);
  first.cancel();
  EXPECT_FALSE(first.wait().transferred);
}

TEST_F(EngineCancelTest, ADroppedTicketCancelsAndReleasesOnceTheKernelLetsGo) {
  stall(1, /*forever=*/true);
  {
    Ticket dropped = engine_->read(blocks(30), counted(30));
    wait_for_operations(8);
    EXPECT_EQ(released_, 0);
  }
  wait_for_releases(1);
  EXPECT_EQ(control_->operations(), 8u);
}

TEST_F(EngineCancelTest, ALateRequestCompletesAtItsDeadlineWithoutTheMemoryInFlight) {
  // Never given back, so the test frees it: once the simulator has written there at its end.
  const Buffer memory = Buffer::allocate(20 * kBlock);
  auto release = [](void* owner, std::byte*, std::size_t) noexcept {
    ++*static_cast<std::atomic<int>*>(owner);
  };
  control_->plan({.kind = FaultKind::kLoseCompletion, .nth = 2});
  const auto start = steady_clock::now();
  Ticket ticket = engine_->read(blocks(20, start + 100ms),
                                Buffer(memory.data(), memory.capacity(), release, &released_));
  Completion done = ticket.wait();
  EXPECT_GE(steady_clock::now() - start, 100ms);
  EXPECT_LT(steady_clock::now() - start, 5s);
  ASSERT_FALSE(done.transferred);
  EXPECT_EQ(done.transferred.error().kind, ErrorKind::kDeadline);
  EXPECT_EQ(done.transferred.error().path, file_->path());
  EXPECT_FALSE(done.buffer);
  // The engine works on.
  EXPECT_TRUE(engine_->read(blocks(20), Buffer::allocate(20 * kBlock)).wait().transferred);
  EXPECT_EQ(released_, 0) << "the device may still write there";
  engine_.reset();
  EXPECT_EQ(released_, 0) << "never given back";
}

TEST_F(EngineCancelTest, TheMemoryOfALateRequestIsReleasedWhenTheKernelLetsGo) {
  stall(2, /*forever=*/true);
  Completion done = engine_->read(blocks(20, steady_clock::now() + 50ms), counted(20)).wait();
  ASSERT_FALSE(done.transferred);
  EXPECT_EQ(done.transferred.error().kind, ErrorKind::kDeadline);
  wait_for_releases(1);
}

TEST_F(EngineCancelTest, OtherRequestsInFlightStayThere) {
  stall(1, /*forever=*/true);
  Ticket stays = engine_->read(blocks(1), counted(1));
  Ticket given_up = engine_->read(blocks(1), counted(1));
  wait_for_operations(2);
  control_->clear();
  given_up.cancel();
  EXPECT_EQ(given_up.wait().transferred.error().kind, ErrorKind::kCancelled);
  EXPECT_TRUE(engine_->read(blocks(1), counted(1)).wait().transferred);  // a round or two later
  EXPECT_FALSE(stays.done());
  stays.cancel();
  EXPECT_FALSE(stays.wait().transferred);
}

TEST_F(EngineCancelTest, WaitingUntilADeadlineCancels) {
  stall(1, /*forever=*/true);
  Completion done = engine_->read(blocks(20), counted(20)).wait_until(steady_clock::now() + 5ms);
  ASSERT_FALSE(done.transferred);
  EXPECT_EQ(done.transferred.error().kind, ErrorKind::kDeadline);
  EXPECT_FALSE(done.buffer);
  wait_for_releases(1);
}

TEST_F(EngineCancelTest, ALateRequestThatNeverStartedBringsItsBuffer) {
  stall(1, /*forever=*/true);
  Ticket first = engine_->read(blocks(20), counted(20));
  wait_for_operations(8);
  Completion done = engine_->read(blocks(4, steady_clock::now() + 30ms), counted(4)).wait();
  ASSERT_FALSE(done.transferred);
  EXPECT_EQ(done.transferred.error().kind, ErrorKind::kDeadline);
  EXPECT_TRUE(done.buffer);
  first.cancel();
  EXPECT_TRUE(first.wait().buffer);
}

TEST_F(EngineCancelTest, ACallbackIsToldOfTheDeadlineOnce) {
  stall(1, /*forever=*/true);
  std::atomic<int> calls{0};
  std::atomic<bool> late{false};
  engine_->read(blocks(20, steady_clock::now() + 30ms), counted(20), [&](Completion done) {
    late = !done.transferred && done.transferred.error().kind == ErrorKind::kDeadline;
    ++calls;
  });
  wait_for_releases(1);
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(late);
}

TEST_F(EngineCancelTest, DeadlinesFarAwayDisturbNothing) {
  for (int i = 0; i < 50; ++i) {
    Completion done = engine_->read(blocks(8, steady_clock::now() + 1h), counted(8)).wait();
    ASSERT_TRUE(done.transferred) << done.transferred.error().message();
  }
}

TEST_F(EngineCancelTest, TheFileMayGoBeforeItsRequests) {
  stall(1, /*forever=*/true);
  Ticket ticket = engine_->read(blocks(12), counted(12));
  wait_for_operations(8);
  const std::string path = file_->path();
  const int fd = file_->fd();
  file_.reset();
  EXPECT_GE(fcntl(fd, F_GETFD), 0) << "closed under a request";
  control_->clear();
  ticket.cancel();
  EXPECT_EQ(ticket.wait().transferred.error().path, path);
  engine_.reset();
  EXPECT_EQ(fcntl(fd, F_GETFD), -1) << "never closed";
}

// Waits, cancels, deadlines and drops at random from several threads, ended by the engine's end:
// every Buffer is released exactly once (and under TSan, with no race).
TEST_F(EngineCancelTest, AnyMixOfEndingsReleasesEveryBufferOnce) {
  const std::uint64_t seed = test_seed(21);
  auto control = std::make_shared<SimulatorControl>(
      SimulatorOptions{.seed = seed, .short_chance = 0.1, .reorder = true, .max_delay_rounds = 3});
  auto engine = Engine::create({.block_size_bytes = kBlock, .queue_depth = 4, .thread_count = 2},
                               simulator_backend(control));
  ASSERT_TRUE(engine);
  for (int n = 1; n < 400; n += 7) {
    control->plan({.kind = FaultKind::kStall, .nth = static_cast<std::uint64_t>(n)});
  }
  constexpr int kThreads = 3;
  constexpr int kEach = 150;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(seed + static_cast<std::uint64_t>(t));
      for (int i = 0; i < kEach; ++i) {
        Engine::Request request = blocks(1 + random() % 6, steady_clock::now() + 20ms);
        if (random() % 2 == 0) request.priority = Priority::kUrgent;
        Ticket ticket = (*engine)->read(request, counted(6));
        switch (random() % 4) {
          case 0:
            ticket.cancel();
            [[fallthrough]];
          case 1:
            static_cast<void>(ticket.wait());
            break;
          case 2:
            static_cast<void>(ticket.wait_until(steady_clock::now() + 1ms));
            break;
          default:
            ticket.expedite();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  engine->reset();
  EXPECT_EQ(released_, kThreads * kEach);
}

}  // namespace
}  // namespace spillway::aio
