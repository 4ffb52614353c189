// RLIMIT_MEMLOCK as the kernel enforces it: in a child process that has given up CAP_IPC_LOCK.
#include <gtest/gtest.h>

#include "memlock_limit.h"
#include "spillway/pinned_pool/limits.h"
#include "spillway/pinned_pool/pool.h"

namespace spillway::pinned_pool {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

class MemlockDeathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "sanitizers turn mlock into a call that does nothing";
#endif
  }
};

void create_pool_that_must_be_locked() {
  limit_locked_memory(8 * kMiB);
  auto pool = Pool::create({.buffer_bytes = 4 * kMiB,
                            .buffer_count = 4,
                            .name = "optimizer",
                            .huge_pages = Policy::kOff,
                            .lock = Policy::kRequired});
  finish_child(pool ? "created" : pool.error().message());
}

TEST_F(MemlockDeathTest, APoolThatMustBeLockedIsRefusedWithTheArithmetic) {
  EXPECT_EXIT(
      create_pool_that_must_be_locked(), ::testing::ExitedWithCode(0),
      "optimizer buffers 4 x 4.0 MiB = 16.0 MiB, but RLIMIT_MEMLOCK leaves 8.0 MiB .limit 8.0 MiB, "
      "locked 0 B.: raise it with 'ulimit -l' or do without pinned memory");
}

void create_slab_that_must_be_locked() {
  limit_locked_memory(1 * kMiB);
  auto slab =
      Slab::create({.size_bytes = 4 * kMiB, .huge_pages = Policy::kOff, .lock = Policy::kRequired});
  finish_child(slab ? "created" : slab.error().message());
}

TEST_F(MemlockDeathTest, TheKernelsOwnRefusalIsNamedToo) {
  EXPECT_EXIT(create_slab_that_must_be_locked(), ::testing::ExitedWithCode(0),
              "4.0 MiB wanted, RLIMIT_MEMLOCK is 1.0 MiB with 0 B locked");
}

void create_pool_that_may_be_locked() {
  limit_locked_memory(1 * kMiB);
  auto pool =
      Pool::create({.buffer_bytes = 4 * kMiB, .buffer_count = 4, .huge_pages = Policy::kOff});
  if (!pool) finish_child(pool.error().message());
  std::string report = (*pool)->slab().locked() ? "locked" : "not locked";
  for (const std::string& line : (*pool)->slab().report()) report += "|" + line;
  finish_child(report);
}

TEST_F(MemlockDeathTest, APoolThatMayBeLockedGoesOnAndSaysSo) {
  EXPECT_EXIT(create_pool_that_may_be_locked(), ::testing::ExitedWithCode(0),
              "not locked.*[|]lock: .*RLIMIT_MEMLOCK is 1.0 MiB");
}

void lock_drop_and_lock_again() {
  limit_locked_memory(8 * kMiB);
  const SlabOptions options{
      .size_bytes = 6 * kMiB, .huge_pages = Policy::kOff, .lock = Policy::kRequired};
  {
    auto first = Slab::create(options);
    if (!first) finish_child("first: " + first.error().message());
    if (MemoryLimits::read().locked_bytes != 6 * kMiB) finish_child("not counted");
    if (Slab::create(options)) finish_child("twice");
  }
  auto again = Slab::create(options);
  finish_child(again ? "given back" : "again: " + again.error().message());
}

TEST_F(MemlockDeathTest, WhatIsLockedIsCountedAndGivenBack) {
  EXPECT_EXIT(lock_drop_and_lock_again(), ::testing::ExitedWithCode(0), "given back");
}

}  // namespace
}  // namespace spillway::pinned_pool
