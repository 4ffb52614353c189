// Rows 1 to 5 of the fault list at the engine: failing, short, interrupted, reordered and lost
// operations. Whatever strikes, a request ends once, with exact bytes or an error, and its Buffer
// comes back unless the device still has it.
#include <gtest/gtest.h>
#include <spillway/aio/engine.h>
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <thread>

#include "support/scratch.h"
#include "support/seed.h"
#include "support/simulator.h"

namespace spillway::aio {
namespace {

using namespace std::chrono_literals;
using Bytes = std::vector<std::byte>;

constexpr std::uint32_t kBlock = 8192;
constexpr std::size_t kFileBytes = 16 * kBlock;
// A request with unaligned edges and several blocks between them.
constexpr std::uint64_t kOffset = 4096 + 100;
constexpr std::size_t kSize = 6 * kBlock + 300;

class EngineFaults : public ::testing::Test {
 protected:
  static inline std::atomic<int> outstanding_{0};  // Buffers not given back

  // Mapped, so that memory lost on purpose is no leak to LeakSanitizer, and memory given back too
  // early is no memory to the device.
  static Buffer counted(std::size_t size_bytes) {
    ++outstanding_;
    void* memory =
        ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    auto release = [](void*, std::byte* data, std::size_t capacity) noexcept {
      --outstanding_;
      ::munmap(data, capacity);
    };
    return {static_cast<std::byte*>(memory), size_bytes, release, nullptr};
  }

  void SetUp() override { outstanding_ = 0; }

  // A file of known bytes, and an engine over a simulator with `options`.
  void start(const SimulatorOptions& options, std::uint32_t thread_count = 1) {
    auto file = File::create(scratch_ / "data", {.size_bytes = kFileBytes, .overwrite = true});
    ASSERT_TRUE(file) << file.error().message();
    file_.emplace(std::move(*file));
    model_ = random_bytes(kFileBytes);
    std::ofstream(scratch_ / "data", std::ios::in | std::ios::binary)
        .write(reinterpret_cast<const char*>(model_.data()), kFileBytes);
    control_ = std::make_shared<SimulatorControl>(options);
    auto engine = Engine::create({.block_size_bytes = kBlock,
                                  .queue_depth = 4,
                                  .thread_count = thread_count,
                                  .drain_timeout = 100ms},
                                 simulator_backend(control_));
    ASSERT_TRUE(engine) << engine.error().message();
    engine_ = std::move(*engine);
  }

  Bytes random_bytes(std::size_t n) {
    Bytes bytes(n);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random_());
    return bytes;
  }

  Bytes contents() {
    Bytes bytes(std::filesystem::file_size(scratch_ / "data"));
    std::ifstream(scratch_ / "data", std::ios::binary)
        .read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return bytes;
  }

  Result<std::size_t> write(std::uint64_t offset, const Bytes& bytes) {
    Buffer buffer = counted(bytes.size());
    std::memcpy(buffer.data(), bytes.data(), bytes.size());
    return engine_
        ->write({.file = &*file_, .offset = offset, .size_bytes = bytes.size()}, std::move(buffer))
        .wait()
        .transferred;
  }

  Result<Bytes> read(std::uint64_t offset, std::size_t size_bytes) {
    Completion done = engine_
                          ->read({.file = &*file_, .offset = offset, .size_bytes = size_bytes},
                                 counted(size_bytes))
                          .wait();
    if (!done.transferred) return tl::unexpected(done.transferred.error());
    return Bytes(done.buffer.data(), done.buffer.data() + size_bytes);
  }

  // Writes and reads with the planned fault. All that was not asked for keeps its bytes; what the
  // engine calls done is done; after the fault has passed, the same works.
  void write_and_read_under(const Fault& fault) {
    SCOPED_TRACE("fault " + std::to_string(static_cast<int>(fault.kind)) + " at operation " +
                 std::to_string(fault.nth) + (fault.forever ? " and after" : "") + ", errno " +
                 std::to_string(fault.errno_value));
    control_->plan(fault);
    Bytes fresh = random_bytes(kSize);
    Bytes before = model_;
    auto written = write(kOffset, fresh);
    std::copy(fresh.begin(), fresh.end(), model_.begin() + kOffset);
    Bytes now = contents();
    ASSERT_EQ(now.size(), model_.size());
    if (written) {
      EXPECT_EQ(now, model_);
    } else {
      EXPECT_NE(written.error().path, "");
      EXPECT_EQ(written.error().wanted, kSize);
      ASSERT_LE(written.error().got, kSize);
      auto got = static_cast<std::ptrdiff_t>(written.error().got);
      EXPECT_TRUE(
          std::equal(now.begin() + kOffset, now.begin() + kOffset + got, model_.begin() + kOffset))
          << "what the error counts as moved was not";
      EXPECT_TRUE(std::equal(now.begin(), now.begin() + kOffset, before.begin()));
      EXPECT_TRUE(
          std::equal(now.begin() + kOffset + kSize, now.end(), before.begin() + kOffset + kSize));
    }
    auto back = read(kOffset, kSize);
    if (back) {
      EXPECT_TRUE(std::equal(back->begin(), back->end(), now.begin() + kOffset));
    }
    control_->clear();
    auto repaired = write(kOffset, fresh);
    ASSERT_TRUE(repaired) << repaired.error().message();
    back = read(kOffset, kSize);
    ASSERT_TRUE(back) << back.error().message();
    EXPECT_EQ(*back, fresh);
    EXPECT_EQ(contents(), model_);
    EXPECT_EQ(outstanding_, 0);
  }

  Scratch scratch_;
  std::optional<File> file_;
  Bytes model_;
  std::shared_ptr<SimulatorControl> control_;
  std::unique_ptr<Engine> engine_;
  std::mt19937_64 random_{test_seed(17)};
};

// Row 1: the Nth operation fails, for every N until a run has no Nth operation.
TEST_F(EngineFaults, TheNthOperationFails) {
  for (int errno_value : {EIO, ENOSPC, EINVAL, ECANCELED}) {
    for (bool forever : {false, true}) {
      start({.seed = 1});
      std::uint64_t nth = 0;
      std::uint64_t before = 0;
      do {
        ASSERT_LT(++nth, 200u);
        before = control_->faults();
        write_and_read_under({.kind = FaultKind::kError,
                              .nth = nth,
                              .forever = forever,
                              .errno_value = errno_value});
      } while (control_->faults() > before && !HasFatalFailure());
      EXPECT_GT(nth, 10u) << "each block and edge was struck";
    }
  }
}

// Row 2: the Nth operation moves a part, or nothing.
TEST_F(EngineFaults, TheNthOperationIsShort) {
  for (std::uint32_t keep_bytes : {1u, 511u, 512u, 4096u, 5000u}) {
    start({.seed = 2});
    std::uint64_t nth = 0;
    std::uint64_t before = 0;
    do {
      ASSERT_LT(++nth, 200u);
      before = control_->faults();
      control_->plan({.kind = FaultKind::kShort, .nth = nth, .keep_bytes = keep_bytes});
      Bytes fresh = random_bytes(kSize);
      std::copy(fresh.begin(), fresh.end(), model_.begin() + kOffset);
      auto written = write(kOffset, fresh);
      ASSERT_TRUE(written) << written.error().message();
      auto back = read(kOffset, kSize);
      ASSERT_TRUE(back) << back.error().message();
      EXPECT_EQ(*back, fresh);
      EXPECT_EQ(contents(), model_);
    } while (control_->faults() > before);
    EXPECT_GT(engine_->stats().short_transfers, 0u);
  }
}

TEST_F(EngineFaults, TheNthOperationMovesNothing) {
  for (bool forever : {false, true}) {
    start({.seed = 3});
    std::uint64_t nth = 0;
    std::uint64_t before = 0;
    do {
      ASSERT_LT(++nth, 200u);
      before = control_->faults();
      write_and_read_under({.kind = FaultKind::kZero, .nth = nth, .forever = forever});
    } while (control_->faults() > before && !HasFatalFailure());
  }
}

TEST_F(EngineFaults, NothingMovedForeverIsAShortTransferNotALoop) {
  start({.seed = 3});
  control_->plan({.kind = FaultKind::kZero, .forever = true});
  auto back = read(kOffset, kSize);
  ASSERT_FALSE(back);
  EXPECT_EQ(back.error().kind, ErrorKind::kShortTransfer);
  EXPECT_EQ(write(0, random_bytes(kBlock)).error().kind, ErrorKind::kShortTransfer);
}

// Row 3: interruptions and a queue that takes one operation at a time.
TEST_F(EngineFaults, InterruptionsAndAFullQueueLoseAndDoubleNothing) {
  start({.seed = 4, .interrupt_chance = 0.5, .accept_at_most = 1}, 2);
  std::atomic<int> completions{0};
  std::atomic<int> failures{0};
  constexpr int kRequests = 200;
  for (int i = 0; i < kRequests; ++i) {
    engine_->read({.file = &*file_, .size_bytes = kFileBytes}, counted(kFileBytes),
                  [&](Completion done) {
                    ++completions;
                    if (!done.transferred ||
                        std::memcmp(done.buffer.data(), model_.data(), kFileBytes) != 0) {
                      ++failures;
                    }
                  });
  }
  for (int i = 0; i < 6000 && completions < kRequests; ++i) std::this_thread::sleep_for(5ms);
  EXPECT_EQ(completions, kRequests);
  EXPECT_EQ(failures, 0);
  EXPECT_GT(engine_->stats().retries, 100u);
  engine_.reset();
  EXPECT_EQ(completions, kRequests) << "no request completes twice";
  EXPECT_EQ(outstanding_, 0);
}

TEST_F(EngineFaults, EagainForeverIsReportedAfterABoundedNumberOfTries) {
  start({.seed = 5});
  control_->plan({.kind = FaultKind::kError, .forever = true, .errno_value = EAGAIN});
  const auto start_time = std::chrono::steady_clock::now();
  auto back = read(0, kBlock);
  // 10 us after the first try, 10 more after each, 500 at most: what lacks memory has time to find
  // some.
  EXPECT_GE(std::chrono::steady_clock::now() - start_time, 19ms);
  ASSERT_FALSE(back);
  EXPECT_EQ(back.error().errno_value, EAGAIN);
  EXPECT_NE(back.error().detail.find("tried 64 times"), std::string::npos);
  EXPECT_LE(control_->operations(), 70u);
}

TEST_F(EngineFaults, ACompletionReportedTwiceCountsOnce) {
  start({.seed = 8});
  control_->plan({.kind = FaultKind::kReportTwice, .forever = true});
  Bytes fresh = random_bytes(kSize);
  std::copy(fresh.begin(), fresh.end(), model_.begin() + kOffset);
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(write(kOffset, fresh));
    auto back = read(0, kFileBytes);
    ASSERT_TRUE(back) << back.error().message();
    ASSERT_EQ(*back, model_);
  }
  EXPECT_EQ(outstanding_, 0);
}

// Row 4: any order, any delay, any mix of short and interrupted transfers: the same bytes.
TEST_F(EngineFaults, EverySeedGivesTheSameBytes) {
  std::uint64_t first = test_seed(100);
  for (std::uint64_t seed = first; seed < first + 25; ++seed) {
    SCOPED_TRACE(seed);
    start({.seed = seed,
           .short_chance = 0.3,
           .interrupt_chance = 0.2,
           .reorder = true,
           .max_delay_rounds = 5},
          1 + static_cast<std::uint32_t>(seed % 3));
    for (int i = 0; i < 10; ++i) {
      std::uint64_t offset = random_() % (kFileBytes - 1);
      Bytes fresh = random_bytes(1 + random_() % (kFileBytes - offset));
      std::copy(fresh.begin(), fresh.end(), model_.begin() + static_cast<std::ptrdiff_t>(offset));
      ASSERT_TRUE(write(offset, fresh));
      auto back = read(0, kFileBytes);
      ASSERT_TRUE(back) << back.error().message();
      ASSERT_EQ(*back, model_);
    }
    EXPECT_EQ(contents(), model_);
  }
  EXPECT_EQ(outstanding_, 0);
}

// Row 5: the Nth operation never completes.
TEST_F(EngineFaults, AnOperationThatNeverCompletesMeetsTheDeadlineAndKeepsItsMemory) {
  for (std::uint64_t nth : {1u, 2u, 5u}) {
    outstanding_ = 0;
    start({.seed = 6});
    control_->plan({.kind = FaultKind::kLoseCompletion, .nth = nth});
    Completion done =
        engine_->read({.file = &*file_, .size_bytes = 6 * kBlock}, counted(6 * kBlock))
            .wait_until(std::chrono::steady_clock::now() + 50ms);
    ASSERT_FALSE(done.transferred);
    EXPECT_EQ(done.transferred.error().kind, ErrorKind::kDeadline);
    EXPECT_FALSE(done.buffer) << "the device may still write there";
    EXPECT_EQ(outstanding_, 1);
    EXPECT_TRUE(read(0, kBlock)) << "other requests go on";
    auto begin = std::chrono::steady_clock::now();
    engine_.reset();
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 20s);
    EXPECT_EQ(outstanding_, 1) << "lost for good, never handed out again";
  }
}

}  // namespace
}  // namespace spillway::aio
