// Leases on their way through a real Engine: registered, written from, read into, come back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <spillway/aio/engine.h>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "memlock_limit.h"
#include "spillway/pinned_pool/limits.h"
#include "spillway/pinned_pool/pool.h"
#include "support/scratch.h"

namespace spillway::pinned_pool {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr std::size_t kMiB = 1 << 20;
constexpr std::size_t kBytes = 64 << 10;

aio::File make_file(const Scratch& scratch) {
  auto file = aio::File::create(scratch / "file", {.size_bytes = 8 * kBytes});
  EXPECT_TRUE(file) << file.error().message();
  return std::move(*file);
}

// Block i of the file holds bytes i + 1, all of it through leases of `pool`.
void write_and_read_back(aio::Engine& engine, Pool& pool) {
  const Scratch scratch;
  const aio::File file = make_file(scratch);
  for (std::size_t i = 0; i < 8; ++i) {
    Lease lease = pool.acquire();
    std::memset(lease.data(), static_cast<int>(i + 1), kBytes);
    auto done = engine
                    .write({.file = &file, .offset = i * kBytes, .size_bytes = kBytes},
                           std::move(lease).release())
                    .wait();
    ASSERT_TRUE(done.transferred) << done.transferred.error().message();
  }
  for (std::size_t i = 8; i-- > 0;) {
    auto done = engine
                    .read({.file = &file, .offset = i * kBytes, .size_bytes = kBytes},
                          pool.acquire().release())
                    .wait();
    ASSERT_TRUE(done.transferred) << done.transferred.error().message();
    const Lease lease(std::move(done.buffer));
    EXPECT_EQ(pool.available(), pool.buffer_count() - 1);
    for (std::size_t k = 0; k < kBytes; ++k) ASSERT_EQ(lease.data()[k], std::byte(i + 1));
  }
  EXPECT_EQ(pool.available(), pool.buffer_count());
}

TEST(PoolWithEngine, LeasesComeBackWithTheirCompletions) {
  for (const aio::BackendKind backend : {aio::BackendKind::kAuto, aio::BackendKind::kThreadPool}) {
    auto engine = aio::Engine::create({.backend = backend, .block_size_bytes = 16 << 10});
    ASSERT_TRUE(engine) << engine.error().message();
    auto pool = Pool::create({.buffer_bytes = kBytes, .buffer_count = 2}, engine->get());
    ASSERT_TRUE(pool) << pool.error().message();
    EXPECT_THAT((*pool)->slab().report(), Not(Contains(StartsWith("registered buffers"))));
    write_and_read_back(**engine, **pool);
  }
}

TEST(PoolWithEngine, AnAbandonedRequestGivesItsBufferBack) {
  auto engine = aio::Engine::create({});
  ASSERT_TRUE(engine);
  auto pool = Pool::create({.buffer_bytes = kBytes, .buffer_count = 1}, engine->get());
  ASSERT_TRUE(pool);
  const Scratch scratch;
  const aio::File file = make_file(scratch);
  for (int i = 0; i < 100; ++i) {
    const aio::Ticket dropped =
        (*engine)->read({.file = &file, .size_bytes = kBytes}, (*pool)->acquire().release());
  }
  EXPECT_TRUE((*pool)->acquire());  // waits for the last of them
}

std::uint64_t peak_mapped_bytes() {
  std::ifstream status("/proc/self/status");
  std::uint64_t kib = 0;
  for (std::string word; status >> word && word != "VmPeak:";) {
  }
  status >> kib;
  return kib * 1024;
}

// In a child that may lock 6 MiB: what becomes of a slab of 4 MiB that is registered with each
// thread of an engine.
void lock_and_register(std::uint32_t thread_count, const PoolOptions& options) {
  limit_locked_memory(6 * kMiB);  // before the engine: a ring remembers what its maker was allowed
  auto engine = aio::Engine::create(
      {.backend = aio::BackendKind::kIoUring, .queue_depth = 4, .thread_count = thread_count});
  if (!engine) finish_child("no engine: " + engine.error().message());
  const std::uint64_t peak = peak_mapped_bytes();
  auto pool = Pool::create(options, engine->get());
  if (!pool) {
    finish_child((peak_mapped_bytes() < peak + kMiB ? "nothing mapped: " : "mapped: ") +
                 pool.error().message());
  }
  write_and_read_back(**engine, **pool);
  if (::testing::Test::HasFailure()) finish_child("wrong bytes");
  std::string text = "pinned " + std::to_string(MemoryLimits::read().registered_bytes / kMiB);
  for (const std::string& line : (*pool)->slab().report()) text += "|" + line;
  finish_child(text);
}

PoolOptions four_mib(Policy lock, Policy registration) {
  return {.buffer_bytes = 1 * kMiB,
          .buffer_count = 4,
          .name = "optimizer",
          .huge_pages = Policy::kOff,
          .lock = lock,
          .cuda = Policy::kOff,
          .registration = registration};
}

class MemlockWithEngineDeathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    if (!aio::Engine::create({.backend = aio::BackendKind::kIoUring})) {
      GTEST_SKIP() << "this machine forbids io_uring";
    }
  }
};

// The kernel counts the two apart: 4 MiB locked and 4 MiB registered fit into 6 MiB.
TEST_F(MemlockWithEngineDeathTest, LockingAndRegisteringHaveTheLimitToThemselves) {
  EXPECT_EXIT(lock_and_register(1, four_mib(Policy::kRequired, Policy::kRequired)),
              ::testing::ExitedWithCode(0), "^pinned 4\n");
}

// Each thread's ring counts the memory again: 8 MiB do not fit.
TEST_F(MemlockWithEngineDeathTest, RegistrationThatIsForbiddenIsReportedAndDoesNoHarm) {
  EXPECT_EXIT(lock_and_register(2, four_mib(Policy::kRequired, Policy::kAuto)),
              ::testing::ExitedWithCode(0), "^pinned 0[|]registered buffers: .*RLIMIT_MEMLOCK");
}

TEST_F(MemlockWithEngineDeathTest, RegistrationThatIsRequiredIsRefusedBeforeAnythingIsMapped) {
  EXPECT_EXIT(lock_and_register(2, four_mib(Policy::kOff, Policy::kRequired)),
              ::testing::ExitedWithCode(0),
              "^nothing mapped: .*optimizer buffers 4 x 1.0 MiB .4.0 MiB. x 2 I/O threads = 8.0 "
              "MiB, but RLIMIT_MEMLOCK leaves 6.0 MiB .limit 6.0 MiB, registered 0 B.");
}

TEST_F(MemlockWithEngineDeathTest, RegistrationThatIsNotWishedForIsNotTried) {
  EXPECT_EXIT(lock_and_register(2, four_mib(Policy::kOff, Policy::kOff)),
              ::testing::ExitedWithCode(0), "^pinned 0\n");
}

TEST(PoolWithEngine, RequiredRegistrationWithAnEngineWithoutRingsIsRefused) {
  auto engine = aio::Engine::create({.backend = aio::BackendKind::kThreadPool});
  ASSERT_TRUE(engine) << engine.error().message();
  const auto pool = Pool::create(four_mib(Policy::kOff, Policy::kRequired), engine->get());
  ASSERT_FALSE(pool);
  EXPECT_EQ(pool.error().kind, ErrorKind::kUnsupported);
  EXPECT_THAT(pool.error().message(), HasSubstr("the engine is threads"));
}

TEST(PoolWithEngineDeathTest, RequiredRegistrationNeedsAnEngine) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH((void)Pool::create(four_mib(Policy::kOff, Policy::kRequired)), "no engine is given");
}

}  // namespace
}  // namespace spillway::pinned_pool
