// read_and_wait and write_and_wait: who moves the bytes, and that nobody can tell by the outcome.
#include <gtest/gtest.h>
#include <spillway/aio/engine.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <future>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>
#include <vector>

#include "support/child.h"
#include "support/scratch.h"
#include "support/simulator.h"
#include "work_queue.h"

namespace spillway::aio {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kBlock = 65536;
constexpr std::uint64_t kFileBytes = 16 * kBlock;

// What each operation was, and whether this thread made it.
struct Observed {
  std::mutex mutex;
  std::vector<EndedOperation> operations;
  std::vector<std::thread::id> threads;

  IoObserver observer() {
    const auto ended = [](void* context, const EndedOperation& operation) noexcept {
      auto* self = static_cast<Observed*>(context);
      const std::lock_guard lock(self->mutex);
      self->operations.push_back(operation);
      self->threads.push_back(std::this_thread::get_id());
    };
    return {.ended = ended, .context = this};
  }
  // Forgets them. Nothing if both kinds of threads made some.
  std::optional<bool> by_this_thread() {
    const std::lock_guard lock(mutex);
    std::size_t here = 0;
    for (std::size_t i = 0; i < threads.size(); ++i) {
      const bool mine = threads[i] == std::this_thread::get_id();
      EXPECT_EQ(operations[i].engine_thread, mine ? 1u : 0u);
      here += mine;
    }
    const std::size_t all = std::exchange(threads, {}).size();
    operations.clear();
    if (all == 0 || (here > 0 && here < all)) return std::nullopt;
    return here > 0;
  }
};

std::byte pattern(std::uint64_t at, std::uint64_t salt) {
  return static_cast<std::byte>((at * 131 + (at >> 9) * 7 + salt * 53) & 0xff);
}

class CallersMovesTest : public ::testing::TestWithParam<BackendKind> {
 protected:
  void SetUp() override {
    auto file = File::create(scratch_ / "data", {.size_bytes = kFileBytes});
    ASSERT_TRUE(file) << file.error().message();
    file_.emplace(std::move(*file));
    engine_ = make({.queue_depth = 4});
  }

  std::unique_ptr<Engine> make(EngineOptions options) {
    options.backend = GetParam();
    options.block_size_bytes = kBlock;
    options.observer = observed_.observer();
    auto engine = Engine::create(options);
    EXPECT_TRUE(engine) << engine.error().message();
    return std::move(*engine);
  }

  // Writes and reads; true if this thread moved both.
  std::optional<bool> moves(Engine& engine, const Engine::Request& spec, std::size_t skip = 0) {
    Engine::Request request = spec;
    request.file = &*file_;
    request.buffer_offset = skip;
    Buffer buffer = Buffer::allocate(request.size_bytes + skip);
    const std::uint64_t salt = ++salt_;
    for (std::size_t i = 0; i < request.size_bytes; ++i) {
      buffer.data()[skip + i] = pattern(request.offset + i, salt);
    }
    Completion written = engine.write_and_wait(request, std::move(buffer));
    EXPECT_TRUE(written.transferred) << written.transferred.error().message();
    EXPECT_EQ(written.transferred.value_or(0), request.size_bytes);
    const auto write = observed_.by_this_thread();
    std::memset(written.buffer.data(), 0, written.buffer.capacity());
    Completion read = engine.read_and_wait(request, std::move(written.buffer));
    EXPECT_TRUE(read.transferred) << read.transferred.error().message();
    EXPECT_EQ(read.transferred.value_or(0), request.size_bytes);
    for (std::size_t i = 0; i < request.size_bytes; ++i) {
      if (read.buffer.data()[skip + i] == pattern(request.offset + i, salt)) continue;
      ADD_FAILURE() << "byte " << i << " is wrong";
      break;
    }
    EXPECT_EQ(observed_.by_this_thread(), write);
    return write;
  }

  Scratch scratch_;
  std::optional<File> file_;
  Observed observed_;
  std::unique_ptr<Engine> engine_;
  std::uint64_t salt_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Backends, CallersMovesTest,
                         ::testing::Values(BackendKind::kAuto, BackendKind::kThreadPool),
                         [](const auto& info) {
                           return info.param == BackendKind::kAuto ? "auto" : "threads";
                         });

TEST_P(CallersMovesTest, OneBlockOfAnIdleEngineIsMovedByTheCaller) {
  EXPECT_EQ(moves(*engine_, {.size_bytes = kBlock}), true);
  EXPECT_EQ(moves(*engine_, {.offset = 4096, .size_bytes = 4096}), true);
  EXPECT_EQ(
      moves(*engine_, {.offset = 2 * kBlock, .size_bytes = 8192, .priority = Priority::kUrgent}),
      true);
}

TEST_P(CallersMovesTest, WhatNeedsMoreThanOneOperationAtATimeIsNot) {
  EXPECT_EQ(moves(*engine_, {.size_bytes = kBlock + 4096}), false);
  const auto one_by_one = make({.queue_depth = 1});
  EXPECT_EQ(moves(*one_by_one, {.offset = 4096, .size_bytes = 3 * kBlock + 8192}), true);
  EXPECT_EQ(one_by_one->stats().read_operations, 4u);
}

TEST_P(CallersMovesTest, WhatCoversPagesInPartIsNot) {
  if (!file_->direct()) GTEST_SKIP() << "no direct I/O here: " << file_->why_not_direct();
  EXPECT_EQ(moves(*engine_, {.offset = 1, .size_bytes = 4096}), false);
  EXPECT_EQ(moves(*engine_, {.offset = 4096, .size_bytes = 4095}), false);
  EXPECT_EQ(moves(*engine_, {.offset = 4096, .size_bytes = 8192}, /*skip=*/1), false);
  EXPECT_EQ(file_->size_bytes().value(), kFileBytes);
}

TEST_P(CallersMovesTest, WhatHasADeadlineIsNot) {
  EXPECT_EQ(moves(*engine_, {.size_bytes = kBlock,
                             .deadline = std::chrono::steady_clock::now() + std::chrono::hours(1)}),
            false);
}

TEST_P(CallersMovesTest, NothingIsMovedByTheCallerBehindAnother) {
  std::promise<void> entered, go_on;
  // Its callback holds up the engine's thread, so the second one stays pending.
  engine_->read({.file = &*file_, .size_bytes = 4096}, Buffer::allocate(4096), [&](Completion) {
    entered.set_value();
    go_on.get_future().wait();
  });
  entered.get_future().wait();
  auto second = engine_->read({.file = &*file_, .size_bytes = 4096}, Buffer::allocate(4096));
  const std::string me = "/proc/self/task/" + std::to_string(::gettid()) + "/stat";
  std::thread opener([&] {
    for (std::string state; state != "S";) {  // until the test's thread sleeps
      std::ifstream stat(me);
      std::string number, name;
      stat >> number >> name >> state;
    }
    go_on.set_value();
  });
  const Engine::Request request{.file = &*file_, .offset = 8192, .size_bytes = 4096};
  EXPECT_TRUE(engine_->read_and_wait(request, Buffer::allocate(4096)).transferred);
  opener.join();
  EXPECT_TRUE(second.wait().transferred);
  EXPECT_EQ(observed_.by_this_thread(), false);
}

TEST_P(CallersMovesTest, ErrorsAreThoseOfWait) {
  for (const std::uint64_t offset : {kFileBytes - 4096, kFileBytes}) {
    const Engine::Request request{.file = &*file_, .offset = offset, .size_bytes = 8192};
    Completion here = engine_->read_and_wait(request, Buffer::allocate(8192));
    Completion there = engine_->read(request, Buffer::allocate(8192)).wait();
    ASSERT_FALSE(here.transferred);
    ASSERT_FALSE(there.transferred);
    EXPECT_EQ(here.transferred.error().message(), there.transferred.error().message());
    EXPECT_EQ(here.transferred.error().got, kFileBytes - offset);
    EXPECT_TRUE(here.buffer);
  }
}

TEST_P(CallersMovesTest, BytesCallsAndLatencyCount) {
  const auto engine = make({.queue_depth = 4, .measure_latency = true});
  EXPECT_EQ(moves(*engine, {.size_bytes = kBlock}), true);
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.read_bytes, kBlock);
  EXPECT_EQ(stats.written_bytes, kBlock);
  EXPECT_EQ(stats.read_operations, 1u);
  EXPECT_EQ(stats.write_operations, 1u);
  EXPECT_GE(stats.system_calls, 2u);
  EXPECT_EQ(engine->latency(Direction::kRead).count(), 1u);
  EXPECT_EQ(engine->latency(Direction::kWrite).count(), 1u);
}

TEST_P(CallersMovesTest, AnEmptyRequestMovesNothing) {
  const Engine::Request request{.file = &*file_, .offset = kFileBytes};
  EXPECT_EQ(engine_->read_and_wait(request, Buffer::allocate(4096)).transferred.value(), 0u);
  EXPECT_EQ(engine_->stats().read_operations, 0u);
}

TEST_P(CallersMovesTest, ALimitOfFileSizesIsAnError) {
  engine_.reset();
  EXPECT_EQ(
      in_child([&]() -> std::string {
        const rlimit limit{.rlim_cur = kFileBytes, .rlim_max = kFileBytes};
        if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return "no limit";
        const auto engine = make({.queue_depth = 4});
        const Engine::Request request{.file = &*file_, .offset = kFileBytes, .size_bytes = 4096};
        const auto moved = engine->write_and_wait(request, Buffer::allocate(4096)).transferred;
        if (moved) return "it was written";
        return moved.error().errno_value == EFBIG ? "" : moved.error().message();
      }),
      "");
}

// Many threads at once, each with bytes of its own: some move theirs, others hand them over.
TEST_P(CallersMovesTest, ThreadsDoNotMeet) {
  const auto engine = make({.queue_depth = 2});
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (std::uint64_t number = 0; number < 4; ++number) {
    threads.emplace_back([&, number] {
      const Engine::Request request{
          .file = &*file_, .offset = number * 2 * kBlock, .size_bytes = kBlock};
      Buffer buffer = Buffer::allocate(kBlock);
      for (int round = 0; round < 50; ++round) {
        const int value = static_cast<int>(number) * 50 + round;
        std::memset(buffer.data(), value, kBlock);
        buffer = std::move(engine->write_and_wait(request, std::move(buffer)).buffer);
        std::memset(buffer.data(), 0, kBlock);
        buffer = std::move(engine->read_and_wait(request, std::move(buffer)).buffer);
        for (std::size_t i = 0; i < kBlock; i += 512) {
          wrong += buffer.data()[i] != static_cast<std::byte>(value);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(engine->stats().written_bytes, 4u * 50 * kBlock);
}

TEST(CallersMoves, KeepToTheDepthAndEndWithTheQueue) {
  WorkQueue queue(EngineOptions{});
  EXPECT_TRUE(queue.begin_callers_move(2));
  EXPECT_TRUE(queue.begin_callers_move(2));
  EXPECT_FALSE(queue.begin_callers_move(2));
  queue.end_callers_move();
  EXPECT_TRUE(queue.begin_callers_move(2));
  queue.end_callers_move();
  queue.stop();
  EXPECT_FALSE(queue.begin_callers_move(2));
  queue.end_callers_move();
}

// The caller knows pread and pwrite, not what another backend stands for.
TEST(CallersMoves, ABackendOfTheProgramsOwnGetsAll) {
  const Scratch scratch;
  auto file = File::create(scratch / "data", {.size_bytes = kBlock});
  ASSERT_TRUE(file) << file.error().message();
  const auto control = std::make_shared<SimulatorControl>();
  auto engine = Engine::create({.block_size_bytes = kBlock}, simulator_backend(control));
  ASSERT_TRUE(engine);
  const Engine::Request request{.file = &*file, .size_bytes = 4096};
  EXPECT_TRUE((*engine)->read_and_wait(request, Buffer::allocate(4096)).transferred);
  EXPECT_EQ(control->operations(), 1u);
}

}  // namespace
}  // namespace spillway::aio
