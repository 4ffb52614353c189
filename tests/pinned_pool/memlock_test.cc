// RLIMIT_MEMLOCK as the kernel enforces it: in a child process that has given up CAP_IPC_LOCK.
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "spillway/pinned_pool/limits.h"
#include "spillway/pinned_pool/pool.h"

namespace spillway::pinned_pool {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

// In the child only: from here on at most `bytes` may be locked.
void limit_locked_memory(std::uint64_t bytes) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) != 0) std::abort();
  data[0].effective &= ~(1u << CAP_IPC_LOCK);
  data[0].permitted &= ~(1u << CAP_IPC_LOCK);
  if (syscall(SYS_capset, &header, data) != 0) std::abort();
  const rlimit limit{bytes, bytes};
  if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) std::abort();
}

// Ends the child, telling the parent by text on stderr.
[[noreturn]] void finish(const std::string& text) {
  std::fprintf(stderr, "%s\n", text.c_str());
  std::_Exit(0);
}

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
                            .huge_pages = Wish::kOff,
                            .lock = Wish::kRequired});
  finish(pool ? "created" : pool.error().message());
}

TEST_F(MemlockDeathTest, APoolThatMustBeLockedIsRefusedWithTheArithmetic) {
  EXPECT_EXIT(
      create_pool_that_must_be_locked(), ::testing::ExitedWithCode(0),
      "optimizer buffers 4 x 4.0 MiB = 16.0 MiB, but RLIMIT_MEMLOCK leaves 8.0 MiB .limit 8.0 MiB, "
      "locked 0 B.: raise it with 'ulimit -l' or set pin_memory to false");
}

void create_slab_that_must_be_locked() {
  limit_locked_memory(1 * kMiB);
  auto slab =
      Slab::create({.size_bytes = 4 * kMiB, .huge_pages = Wish::kOff, .lock = Wish::kRequired});
  finish(slab ? "created" : slab.error().message());
}

TEST_F(MemlockDeathTest, TheKernelsOwnRefusalIsNamedToo) {
  EXPECT_EXIT(create_slab_that_must_be_locked(), ::testing::ExitedWithCode(0),
              "4.0 MiB wanted, RLIMIT_MEMLOCK is 1.0 MiB with 0 B locked");
}

void create_pool_that_may_be_locked() {
  limit_locked_memory(1 * kMiB);
  auto pool = Pool::create({.buffer_bytes = 4 * kMiB, .buffer_count = 4, .huge_pages = Wish::kOff});
  if (!pool) finish(pool.error().message());
  std::string report = (*pool)->slab().locked() ? "locked" : "not locked";
  for (const std::string& line : (*pool)->slab().report()) report += "|" + line;
  finish(report);
}

TEST_F(MemlockDeathTest, APoolThatMayBeLockedGoesOnAndSaysSo) {
  EXPECT_EXIT(create_pool_that_may_be_locked(), ::testing::ExitedWithCode(0),
              "not locked.*[|]lock: .*RLIMIT_MEMLOCK is 1.0 MiB");
}

void lock_drop_and_lock_again() {
  limit_locked_memory(8 * kMiB);
  const SlabOptions options{
      .size_bytes = 6 * kMiB, .huge_pages = Wish::kOff, .lock = Wish::kRequired};
  {
    auto first = Slab::create(options);
    if (!first) finish("first: " + first.error().message());
    if (MemoryLimits::read().locked_bytes != 6 * kMiB) finish("not counted");
    if (Slab::create(options)) finish("twice");
  }
  auto again = Slab::create(options);
  finish(again ? "given back" : "again: " + again.error().message());
}

TEST_F(MemlockDeathTest, WhatIsLockedIsCountedAndGivenBack) {
  EXPECT_EXIT(lock_drop_and_lock_again(), ::testing::ExitedWithCode(0), "given back");
}

}  // namespace
}  // namespace spillway::pinned_pool
