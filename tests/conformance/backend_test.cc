// What the engine relies on in every Backend.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <spillway/aio/backend.h>
#include <spillway/aio/buffer.h>
#include <spillway/aio/file.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <optional>
#include <thread>

#include "conformance/backends.h"
#include "support/scratch.h"

namespace spillway::aio {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kBlock = 4096;
constexpr std::uint32_t kDepth = 8;

class BackendConformance : public ::testing::TestWithParam<BackendUnderTest> {
 protected:
  void SetUp() override {
    auto made = GetParam().factory()->make(kDepth);
    if (!made)
      GTEST_SKIP() << "this machine has no " << GetParam().name << ": " << made.error().message();
    backend_ = std::move(*made);
    auto file = File::create(scratch_ / "data", {.size_bytes = 64 * kBlock});
    ASSERT_TRUE(file) << file.error().message();
    file_.emplace(std::move(*file));
    memory_ = Buffer::allocate(64 * kBlock);
    std::memset(memory_.data(), 0, memory_.capacity());
  }

  Operation block(Direction direction, std::uint64_t index) {
    return {.direction = direction,
            .fd = file_->fd(),
            .data = memory_.data() + index * kBlock,
            .size_bytes = kBlock,
            .offset = index * kBlock,
            .user_data = index};
  }

  // Runs the operations to their end, taking short and interrupted ones up again as the engine
  // does; returns how often each user_data was reported. Results below 0 are kept in failures_.
  std::map<std::uint64_t, int> run(std::vector<Operation> todo) {
    std::map<std::uint64_t, int> seen;
    std::size_t submitted = 0;
    std::size_t reaped = 0;
    std::map<std::uint64_t, Operation> flying;
    auto give_up = std::chrono::steady_clock::now() + 30s;
    while (reaped < todo.size() && std::chrono::steady_clock::now() < give_up) {
      std::size_t taken = backend_->submit(std::span(todo).subspan(submitted));
      for (std::size_t i = 0; i < taken; ++i) {
        flying[todo[submitted + i].user_data] = todo[submitted + i];
      }
      submitted += taken;
      Event events[3];
      std::size_t n = backend_->reap(events, 1s);
      for (std::size_t i = 0; i < n; ++i) {
        ++reaped;
        Operation operation = flying.at(events[i].user_data);
        bool again = events[i].result == -EINTR || events[i].result == -EAGAIN ||
                     (events[i].result > 0 &&
                      events[i].result < static_cast<std::int32_t>(operation.size_bytes));
        if (again) {
          todo.push_back(operation);
        } else {
          ++seen[events[i].user_data];
          if (events[i].result < 0) failures_[events[i].user_data] = events[i].result;
        }
      }
    }
    return seen;
  }

  Scratch scratch_;
  std::optional<File> file_;
  Buffer memory_;
  std::unique_ptr<Backend> backend_;
  std::map<std::uint64_t, std::int32_t> failures_;
};

void fill(Buffer& memory, unsigned start) {
  for (std::size_t i = 0; i < memory.capacity(); ++i) {
    memory.data()[i] = static_cast<std::byte>((start + i * 7 + i / kBlock) & 0xff);
  }
}

TEST_P(BackendConformance, MovesBytesBothWaysAndCompletesEachOperationOnce) {
  fill(memory_, 3);
  std::vector<std::byte> expected(memory_.data(), memory_.data() + memory_.capacity());
  std::vector<Operation> writes;
  std::vector<Operation> reads;
  for (std::uint64_t i = 0; i < 64; ++i) {
    writes.push_back(block(Direction::kWrite, i));
    reads.push_back(block(Direction::kRead, i));
  }
  auto written = run(writes);
  EXPECT_EQ(written.size(), 64u);
  std::memset(memory_.data(), 0, memory_.capacity());
  auto read = run(reads);
  EXPECT_EQ(read.size(), 64u);
  for (auto& [user_data, times] : written) EXPECT_EQ(times, 1) << user_data;
  for (auto& [user_data, times] : read) EXPECT_EQ(times, 1) << user_data;
  EXPECT_TRUE(failures_.empty());
  EXPECT_EQ(std::memcmp(memory_.data(), expected.data(), expected.size()), 0);
  EXPECT_GT(backend_->system_calls(), 0u);
}

TEST_P(BackendConformance, AFullQueueTakesNoMoreAndLosesNothing) {
  std::vector<Operation> reads;
  for (std::uint64_t i = 0; i < 20; ++i) reads.push_back(block(Direction::kRead, i));
  std::size_t taken = 0;
  while (std::size_t n = backend_->submit(std::span(reads).subspan(taken))) taken += n;
  EXPECT_EQ(taken, kDepth);
  std::map<std::uint64_t, int> seen;
  for (int rounds = 0; rounds < 100 && seen.size() < taken; ++rounds) {
    Event events[kDepth];
    std::size_t n = backend_->reap(events, 1s);
    for (std::size_t i = 0; i < n; ++i) ++seen[events[i].user_data];
  }
  EXPECT_EQ(seen.size(), taken);
  ASSERT_EQ(backend_->submit(std::span(reads).first(1)), 1u);
  Event last{.user_data = 99};  // the memory goes after the read has ended
  for (int rounds = 0; rounds < 100 && backend_->reap(std::span(&last, 1), 1s) == 0; ++rounds) {
  }
  EXPECT_EQ(last.user_data, 0u);
}

TEST_P(BackendConformance, AReadAcrossTheEndIsShortAndBehindItIsZero) {
  ASSERT_EQ(::ftruncate(file_->fd(), 2 * kBlock + 100), 0);
  Operation across = block(Direction::kRead, 0);
  across.size_bytes = 4 * kBlock;
  Operation behind = block(Direction::kRead, 8);
  for (auto [operation, expected] : {std::pair(across, 2 * kBlock + 100), std::pair(behind, 0u)}) {
    std::int32_t result = -EINTR;
    std::uint32_t most = 0;
    // The hostile simulator moves less at times; the most that comes is what the file has.
    for (int i = 0; i < 40; ++i) {
      ASSERT_EQ(backend_->submit(std::span(&operation, 1)), 1u);
      Event event;
      while (backend_->reap(std::span(&event, 1), 1s) == 0) {
      }
      result = event.result;
      if (result > 0) most = std::max(most, static_cast<std::uint32_t>(result));
    }
    EXPECT_EQ(most, expected);
  }
}

TEST_P(BackendConformance, AFailureIsMinusErrno) {
  auto read_only = File::open(file_->path());
  ASSERT_TRUE(read_only);
  Operation write = block(Direction::kWrite, 1);
  write.fd = read_only->fd();
  Operation bad = block(Direction::kRead, 2);
  bad.fd = 987654;
  run({write, bad});
  EXPECT_EQ(failures_[1], -EBADF);
  EXPECT_EQ(failures_[2], -EBADF);
}

TEST_P(BackendConformance, ReapKeepsToItsTimeout) {
  Event event;
  auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(backend_->reap(std::span(&event, 1), 0ns), 0u);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 500ms);
  start = std::chrono::steady_clock::now();
  EXPECT_EQ(backend_->reap(std::span(&event, 1), 60ms), 0u);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 55ms);
}

TEST_P(BackendConformance, WakeEndsAWaitingReap) {
  Event event;
  for (int i = 0; i < 3; ++i) {  // not only the first time
    std::thread waker([&] {
      std::this_thread::sleep_for(20ms);
      backend_->wake();
    });
    auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(backend_->reap(std::span(&event, 1), 20s), 0u);
    EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
    waker.join();
  }
}

TEST_P(BackendConformance, AWakeBeforeReapIsNotLost) {
  Event event;
  for (int i = 0; i < 3; ++i) {
    backend_->wake();
    auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(backend_->reap(std::span(&event, 1), 20s), 0u);
    EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
  }
}

TEST_P(BackendConformance, AStormOfWakesHidesNoCompletion) {
  std::atomic<bool> stop{false};
  std::thread waker([&] {
    while (!stop) backend_->wake();
  });
  std::vector<Operation> reads;
  for (std::uint64_t i = 0; i < 64; ++i) reads.push_back(block(Direction::kRead, i));
  for (int round = 0; round < 5; ++round) EXPECT_EQ(run(reads).size(), 64u);
  stop = true;
  waker.join();
  EXPECT_TRUE(failures_.empty());
}

// More wakes than the completion queue has places, while nobody reaps.
TEST_P(BackendConformance, WakesThatOverflowTheQueueHideNoCompletion) {
  Event event;
  backend_->reap(std::span(&event, 1), 0ns);  // whatever wake needs is in place now
  std::vector<Operation> reads;
  for (std::uint64_t i = 0; i < kDepth; ++i) reads.push_back(block(Direction::kRead, i));
  for (int round = 0; round < 3; ++round) {
    std::thread waker([&] {
      for (int i = 0; i < 5000; ++i) backend_->wake();
    });
    waker.join();
    EXPECT_EQ(run(reads).size(), kDepth);
  }
  EXPECT_TRUE(failures_.empty());
}

TEST_P(BackendConformance, CancelledOperationsStillComplete) {
  Event none;
  backend_->reap(std::span(&none, 1), 0ns);  // whatever wake needs is in place now
  std::vector<Operation> reads;
  for (std::uint64_t i = 0; i < kDepth; ++i) reads.push_back(block(Direction::kRead, i));
  std::size_t taken = 0;
  while (std::size_t n = backend_->submit(std::span(reads).subspan(taken))) taken += n;
  backend_->cancel_all();
  std::map<std::uint64_t, int> seen;
  for (int rounds = 0; rounds < 100 && seen.size() < taken; ++rounds) {
    Event events[kDepth];
    std::size_t n = backend_->reap(events, 1s);
    for (std::size_t i = 0; i < n; ++i) ++seen[events[i].user_data];
  }
  EXPECT_EQ(seen.size(), kDepth);
  // The Backend goes on working, wake included.
  EXPECT_EQ(run(reads).size(), kDepth);
  backend_->wake();
  Event event;
  auto start = std::chrono::steady_clock::now();
  backend_->reap(std::span(&event, 1), 20s);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
}

TEST_P(BackendConformance, RegisteredMemoryAndFilesMoveTheSameBytes) {
  fill(memory_, 9);
  std::vector<std::byte> expected(memory_.data(), memory_.data() + 32 * kBlock);
  // Blocks 8 to 15 are registered, the rest is not.
  auto registered = backend_->register_memory({memory_.data() + 8 * kBlock, 8 * kBlock});
  ASSERT_TRUE(registered) << registered.error().message();
  backend_->register_file(file_->fd());
  std::vector<Operation> writes;
  std::vector<Operation> reads;
  for (std::uint64_t i = 0; i < 32; ++i) {
    writes.push_back(block(Direction::kWrite, i));
    reads.push_back(block(Direction::kRead, i));
    writes.back().registered_file = reads.back().registered_file = i % 2 == 0;
  }
  // Across the border of registered memory.
  Operation across = block(Direction::kRead, 6);
  across.size_bytes = 4 * kBlock;
  across.registered_file = true;
  EXPECT_EQ(run(writes).size(), 32u);
  std::memset(memory_.data(), 0, memory_.capacity());
  EXPECT_EQ(run(reads).size(), 32u);
  EXPECT_EQ(run({across}).size(), 1u);
  EXPECT_TRUE(failures_.empty());
  EXPECT_EQ(std::memcmp(memory_.data(), expected.data(), expected.size()), 0);
  backend_->unregister_memory({memory_.data() + 8 * kBlock, 8 * kBlock});
  backend_->unregister_file(file_->fd());
  for (Operation& read : reads) read.registered_file = false;
  std::memset(memory_.data(), 0, memory_.capacity());
  EXPECT_EQ(run(reads).size(), 32u);
  EXPECT_TRUE(failures_.empty());
  EXPECT_EQ(std::memcmp(memory_.data(), expected.data(), expected.size()), 0);
}

INSTANTIATE_TEST_SUITE_P(Backends, BackendConformance, ::testing::ValuesIn(kBackends),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace spillway::aio
