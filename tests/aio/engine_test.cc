// What an Engine promises beyond moving bytes (tests/conformance): options, choice, deadlines, the
// life of Buffers and Tickets, its end.
#include <gtest/gtest.h>
#include <spillway/aio/engine.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <future>
#include <span>
#include <thread>
#include <vector>

#include "support/gated_backend.h"
#include "support/scratch.h"
#include "support/simulator.h"

namespace spillway::aio {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kBlock = 16384;

// Memory whose release is counted. Outlives every Engine of its test.
struct Counted {
  std::vector<std::byte> memory = std::vector<std::byte>(1 << 20);
  std::atomic<int> released{0};
  // Unaligned on purpose where `skip` says so.
  Buffer buffer(std::size_t size_bytes, std::size_t skip = 0) {
    auto address = reinterpret_cast<std::uintptr_t>(memory.data());
    std::size_t to_page = (4096 - address % 4096) % 4096;
    auto release = [](void* owner, std::byte*, std::size_t) noexcept {
      ++static_cast<Counted*>(owner)->released;
    };
    return {memory.data() + to_page + skip, size_bytes, release, this};
  }
};

class EngineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto file = File::create(scratch_ / "data", {.size_bytes = 64 * kBlock});
    ASSERT_TRUE(file) << file.error().message();
    file_.emplace(std::move(*file));
  }

  std::unique_ptr<Engine> simulated(std::chrono::milliseconds drain = 50ms) {
    auto engine =
        Engine::create({.block_size_bytes = kBlock, .queue_depth = 8, .drain_timeout = drain},
                       simulator_backend(control_));
    EXPECT_TRUE(engine) << engine.error().message();
    return std::move(*engine);
  }

  // Until the simulator has been given `n` operations.
  void wait_for_operations(std::uint64_t n) {
    for (int i = 0; i < 2000 && control_->operations() < n; ++i) std::this_thread::sleep_for(5ms);
    ASSERT_GE(control_->operations(), n);
  }

  Engine::Request all(std::size_t size_bytes) {
    return {.file = &*file_, .size_bytes = size_bytes};
  }

  Scratch scratch_;
  Counted counted_;
  std::optional<File> file_;
  std::shared_ptr<SimulatorControl> control_ = std::make_shared<SimulatorControl>();
};

TEST(EngineOptions, NamesTheFieldAndWhatIsAllowed) {
  EXPECT_TRUE(validate({}));
  auto message = [](const EngineOptions& options) {
    auto result = validate(options);
    EXPECT_FALSE(result);
    if (result) return std::string();
    EXPECT_EQ(result.error().kind, ErrorKind::kInvalid);
    EXPECT_FALSE(Engine::create(options)) << "create must refuse it too";
    return result.error().message();
  };
  for (std::uint32_t block_size : {0u, 1000u, 4097u, (1u << 30) + 4096}) {
    EXPECT_NE(message({.block_size_bytes = block_size}).find("block_size is "), std::string::npos);
  }
  EXPECT_NE(message({.queue_depth = 0}).find("queue_depth is 0, must be 1 to 4096"),
            std::string::npos);
  EXPECT_NE(message({.queue_depth = 4097}).find("queue_depth is 4097"), std::string::npos);
  EXPECT_NE(message({.thread_count = 65}).find("thread_count is 65, must be 1 to 64"),
            std::string::npos);
  EXPECT_NE(message({.drain_timeout = -1ms}).find("drain_timeout"), std::string::npos);
}

TEST(EngineChoice, AutoSaysWhatItTook) {
  auto automatic = Engine::create({});
  ASSERT_TRUE(automatic) << automatic.error().message();
  auto named = Engine::create({.backend = BackendKind::kIoUring});
  if (named) {
    EXPECT_EQ((*automatic)->choice(), "io_uring");
    EXPECT_STREQ((*automatic)->backend_name(), "io_uring");
  } else {
    EXPECT_EQ((*automatic)->choice(), "threads: " + named.error().message());
    EXPECT_STREQ((*automatic)->backend_name(), "threads");
  }
  auto threads = Engine::create({.backend = BackendKind::kThreadPool});
  ASSERT_TRUE(threads);
  EXPECT_EQ((*threads)->choice(), "threads");
}

// At the default block size, which no bounce buffer holds, and with more of them than there are.
TEST_F(EngineTest, UnalignedMemoryMovesThroughBounceBuffersAtTheDefaultBlockSize) {
  constexpr std::size_t kSize = 9'000'001;
  auto engine = Engine::create({});
  ASSERT_TRUE(engine) << engine.error().message();
  auto file = File::create(scratch_ / "large", {.size_bytes = kSize + 100});
  ASSERT_TRUE(file) << file.error().message();
  std::vector<std::byte> sent(kSize + 4096), got(kSize + 4096);
  for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<std::byte>(i * 7 + i / 4099);
  const auto odd = [](std::vector<std::byte>& memory) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
    return std::span(memory).subspan(address % 512 == 0 ? 1 : 0, kSize);
  };
  const Engine::Request request{.file = &*file, .offset = 100, .size_bytes = kSize};
  auto written = (*engine)->write(request, Buffer::borrow(odd(sent))).wait();
  ASSERT_TRUE(written.transferred) << written.transferred.error().message();
  auto read = (*engine)->read(request, Buffer::borrow(odd(got))).wait();
  ASSERT_TRUE(read.transferred) << read.transferred.error().message();
  EXPECT_TRUE(std::ranges::equal(odd(sent), odd(got)));
}

TEST_F(EngineTest, AnEmptyRequestCompletesWithNoOperation) {
  auto engine = simulated();
  Completion done = engine->read(all(0), counted_.buffer(0)).wait();
  EXPECT_EQ(*done.transferred, 0u);
  EXPECT_EQ(control_->operations(), 0u);
}

TEST_F(EngineTest, TheErrorIsTheOneNearestToTheStartAndCountsWhatIsWhole) {
  auto engine = simulated();
  control_->plan({.kind = FaultKind::kError, .nth = 5, .errno_value = EIO});
  control_->plan({.kind = FaultKind::kError, .nth = 3, .errno_value = ENOSPC});
  Completion done = engine->write(all(8 * kBlock), counted_.buffer(8 * kBlock)).wait();
  ASSERT_FALSE(done.transferred);
  const Error& error = done.transferred.error();
  EXPECT_EQ(error.kind, ErrorKind::kNoSpace);
  EXPECT_EQ(error.errno_value, ENOSPC);
  EXPECT_EQ(error.operation, "write");
  EXPECT_EQ(error.path, file_->path());
  EXPECT_EQ(error.wanted, 8 * kBlock);
  EXPECT_EQ(error.got, 2 * kBlock);
  EXPECT_TRUE(done.buffer) << "the Buffer comes back with the error";
}

TEST_F(EngineTest, AFailureStopsWhatIsNotYetStarted) {
  auto engine = simulated();  // 8 in flight at most
  control_->plan({.kind = FaultKind::kError, .nth = 1, .forever = true});
  EXPECT_FALSE(engine->write(all(60 * kBlock), counted_.buffer(60 * kBlock)).wait().transferred);
  EXPECT_LE(control_->operations(), 16u);
}

TEST_F(EngineTest, ADeadlineKeepsTheBufferUntilTheDeviceIsDone) {
  auto engine = simulated();
  control_->plan({.kind = FaultKind::kLoseCompletion, .nth = 2});
  auto start = std::chrono::steady_clock::now();
  Completion done = engine->read(all(4 * kBlock), counted_.buffer(4 * kBlock))
                        .wait_until(std::chrono::steady_clock::now() + 40ms);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 40ms);
  ASSERT_FALSE(done.transferred);
  EXPECT_EQ(done.transferred.error().kind, ErrorKind::kDeadline);
  EXPECT_EQ(done.transferred.error().path, file_->path());
  EXPECT_FALSE(done.buffer);
  EXPECT_EQ(counted_.released, 0);
  // Others go on.
  EXPECT_TRUE(engine->read(all(kBlock), Buffer::allocate(kBlock)).wait().transferred);
}

// A part came, and the device may write all of it again.
TEST_F(EngineTest, NothingOfABounceBufferThatTheDeviceKeepsHasMoved) {
  if (!file_->direct()) GTEST_SKIP() << "no direct I/O here: " << file_->why_not_direct();
  auto engine = simulated();
  control_->plan({.kind = FaultKind::kShort});
  control_->plan({.kind = FaultKind::kLoseCompletion, .nth = 2});
  const Engine::Request request{.file = &*file_, .size_bytes = 8192};
  Ticket ticket = engine->read(request, counted_.buffer(8192, /*skip=*/1));
  wait_for_operations(2);
  engine.reset();
  const Completion done = ticket.wait();
  ASSERT_FALSE(done.transferred);
  EXPECT_EQ(done.transferred.error().got, 0u) << done.transferred.error().message();
}

TEST_F(EngineTest, AMetDeadlineGivesAllBack) {
  auto engine = simulated();
  Completion done = engine->read(all(4 * kBlock), counted_.buffer(4 * kBlock))
                        .wait_until(std::chrono::steady_clock::now() + 60s);
  EXPECT_TRUE(done.transferred);
  EXPECT_EQ(done.buffer.capacity(), 4 * kBlock);
}

TEST_F(EngineTest, ATicketMayOutliveItsEngine) {
  Ticket ticket;
  {
    auto engine = simulated();
    ticket = engine->read(all(kBlock), counted_.buffer(kBlock));
  }
  EXPECT_TRUE(ticket.valid());
  EXPECT_TRUE(ticket.done());
  Completion done = ticket.wait();
  EXPECT_FALSE(ticket.valid());
  EXPECT_TRUE(done.buffer);
  if (!done.transferred) {
    EXPECT_EQ(done.transferred.error().kind, ErrorKind::kCancelled);
  }
}

TEST_F(EngineTest, DestructionCompletesEveryRequestOnceWithItsBuffer) {
  for (auto kind : {BackendKind::kAuto, BackendKind::kThreadPool}) {
    auto engine = Engine::create(
        {.backend = kind, .block_size_bytes = 4096, .queue_depth = 4, .thread_count = 2});
    ASSERT_TRUE(engine) << engine.error().message();
    constexpr int kRequests = 200;
    std::vector<std::atomic<int>> completed(kRequests);
    std::atomic<int> unexpected{0};
    for (int i = 0; i < kRequests; ++i) {
      (*engine)->write(all(12 * 4096), Buffer::allocate(12 * 4096), [&, i](Completion done) {
        ++completed[static_cast<std::size_t>(i)];
        if (!done.buffer) ++unexpected;
        if (!done.transferred && done.transferred.error().kind != ErrorKind::kCancelled) {
          ++unexpected;
        }
      });
    }
    engine->reset();
    for (auto& times : completed) EXPECT_EQ(times, 1);
    EXPECT_EQ(unexpected, 0);
  }
}

// The device that never answers: the end of the Engine is bounded, and the memory it may still
// write into is never given back. (The simulator writes there when it goes: ASan would see it.)
TEST_F(EngineTest, DestructionGivesALostOperationUpAndNeverItsMemory) {
  auto engine = simulated(50ms);
  control_->plan({.kind = FaultKind::kLoseCompletion, .nth = 2});
  Ticket lost = engine->read(all(4 * kBlock), counted_.buffer(4 * kBlock));
  wait_for_operations(4);
  auto start = std::chrono::steady_clock::now();
  engine.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start, 20s);
  Completion done = lost.wait();
  ASSERT_FALSE(done.transferred);
  EXPECT_EQ(done.transferred.error().kind, ErrorKind::kCancelled);
  EXPECT_EQ(done.transferred.error().got, kBlock) << "the first block was whole";
  EXPECT_FALSE(done.buffer);
  EXPECT_EQ(counted_.released, 0);
}

TEST_F(EngineTest, ALostOperationOnABounceBufferGivesTheRequestsOwnMemoryBack) {
  if (!file_->direct()) GTEST_SKIP() << "no bounce buffers without direct I/O";
  auto engine = simulated(50ms);
  control_->plan({.kind = FaultKind::kLoseCompletion, .nth = 1});
  Ticket lost = engine->read(all(4 * kBlock), counted_.buffer(4 * kBlock, /*skip=*/1));
  wait_for_operations(1);
  engine.reset();
  Completion done = lost.wait();
  ASSERT_FALSE(done.transferred);
  EXPECT_TRUE(done.buffer) << "the device never had it";
}

TEST_F(EngineTest, ACallbackMaySubmitWhileTheEngineEnds) {
  auto engine = simulated();
  Engine* raw = engine.get();
  std::atomic<int> outer{0};
  std::atomic<int> inner{0};
  for (int i = 0; i < 50; ++i) {
    engine->read(all(8 * kBlock), Buffer::allocate(8 * kBlock), [&, raw](Completion done) {
      ++outer;
      raw->read(all(kBlock), std::move(done.buffer), [&](Completion) { ++inner; });
    });
  }
  engine.reset();
  EXPECT_EQ(outer, 50);
  EXPECT_EQ(inner, 50);
}

TEST_F(EngineTest, SingleSubmitMakesASystemCallForEachOperation) {
  auto engine =
      Engine::create({.block_size_bytes = 4096, .queue_depth = 32, .single_submit = true});
  ASSERT_TRUE(engine);
  ASSERT_TRUE((*engine)->read(all(64 * 4096), Buffer::allocate(64 * 4096)).wait().transferred);
  EXPECT_GE((*engine)->stats().system_calls, 64u);
}

TEST_F(EngineTest, ABatchCostsFarFewerSystemCallsThanOperations) {
  auto engine = Engine::create(
      {.backend = BackendKind::kIoUring, .block_size_bytes = 4096, .queue_depth = 64});
  if (!engine) GTEST_SKIP() << engine.error().message();
  ASSERT_TRUE((*engine)->read(all(256 * 4096), Buffer::allocate(256 * 4096)).wait().transferred);
  EXPECT_EQ((*engine)->stats().read_operations, 256u);
  EXPECT_LT((*engine)->stats().system_calls, 256u);
}

// Backends of two gates, so that each thread's operations are counted apart.
class TwoGates final : public BackendFactory {
 public:
  explicit TwoGates(const std::shared_ptr<Gate> (&gates)[2])
      : factories_{GatedFactory(gates[0]), GatedFactory(gates[1])} {}
  Result<std::unique_ptr<Backend>> make(std::uint32_t queue_depth) override {
    return factories_[made_++].make(queue_depth);
  }

 private:
  GatedFactory factories_[2];
  std::size_t made_ = 0;
};

// None completes before all are in flight: each thread then has as many as it may.
TEST_F(EngineTest, LargeRequestsAreSpreadOverTheThreads) {
  constexpr std::uint32_t kDepth = 128;
  const std::shared_ptr<Gate> gates[2] = {std::make_shared<Gate>(), std::make_shared<Gate>()};
  auto engine = Engine::create({.block_size_bytes = 4096, .queue_depth = kDepth, .thread_count = 2},
                               std::make_unique<TwoGates>(gates));
  ASSERT_TRUE(engine);
  Ticket ticket = (*engine)->read(all(64 * kBlock), Buffer::allocate(64 * kBlock));
  for (int i = 0; i < 10'000 && gates[0]->count() + gates[1]->count() < 2 * kDepth; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(gates[0]->count(), kDepth);
  EXPECT_EQ(gates[1]->count(), kDepth);
  for (const auto& gate : gates) gate->open = 1'000'000;
  EXPECT_TRUE(ticket.wait().transferred);
}

using EngineDeathTest = EngineTest;

TEST_F(EngineDeathTest, PromisesOfTheCallerAreChecked) {
  auto dies = ::testing::KilledBySignal(SIGABRT);
  EXPECT_EXIT(
      {
        auto engine = simulated();
        engine
            ->read({.file = &*file_, .size_bytes = 4096, .buffer_offset = 1},
                   Buffer::allocate(4096))
            .wait();
      },
      dies, "does not fit into its Buffer");
  EXPECT_EXIT(
      {
        auto engine = simulated();
        auto read_only = File::open(file_->path());
        engine->write({.file = &*read_only, .size_bytes = 4096}, Buffer::allocate(4096)).wait();
      },
      dies, "opened writable");
  EXPECT_EXIT(simulated()->read({.size_bytes = 1}, Buffer::allocate(1)).wait(), dies,
              "needs a File");
  EXPECT_EXIT(Ticket().wait(), dies, "consumed or moved from");
  EXPECT_EXIT(
      {
        auto engine = simulated();
        std::promise<void> never;
        engine->read(all(4096), Buffer::allocate(4096),
                     [&](Completion) { engine->read(all(4096), Buffer::allocate(4096)).wait(); });
        never.get_future().wait();
      },
      dies, "must not wait for a request of its own engine");
}

}  // namespace
}  // namespace spillway::aio
