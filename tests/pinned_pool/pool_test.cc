#include "spillway/pinned_pool/pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <fstream>
#include <future>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "support/child.h"

namespace spillway::pinned_pool {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

static_assert(!std::is_copy_constructible_v<Lease> && !std::is_copy_assignable_v<Lease>);
static_assert(std::is_nothrow_move_constructible_v<Lease>);

std::unique_ptr<Pool> make_pool(std::size_t buffer_bytes, std::size_t buffer_count) {
  auto pool =
      Pool::create({.buffer_bytes = buffer_bytes, .buffer_count = buffer_count, .name = "test"});
  EXPECT_TRUE(pool) << pool.error().message();
  return std::move(*pool);
}

TEST(Pool, BuffersAreWholePagesThatDoNotOverlap) {
  const auto pool = make_pool(5000, 3);
  EXPECT_EQ(pool->buffer_bytes(), 8192u);
  EXPECT_EQ(pool->buffer_count(), 3u);
  std::vector<Lease> leases;
  for (int i = 0; i < 3; ++i) {
    leases.push_back(pool->acquire());
    EXPECT_EQ(leases.back().capacity(), 8192u);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(leases.back().data()) % 4096, 0u);
    std::memset(leases.back().data(), i, leases.back().capacity());
  }
  for (int i = 0; i < 3; ++i) {
    for (std::size_t k = 0; k < 8192; ++k) ASSERT_EQ(leases[i].data()[k], std::byte(i));
  }
  EXPECT_EQ(pool->slab().size_bytes(), 3u * 8192);
}

TEST(Pool, ADroppedLeaseComesBack) {
  const auto pool = make_pool(4096, 2);
  {
    const Lease one = pool->acquire();
    EXPECT_EQ(pool->available(), 1u);
    Lease two = pool->acquire();
    EXPECT_EQ(pool->available(), 0u);
    two = Lease();
    EXPECT_EQ(pool->available(), 1u);
  }
  EXPECT_EQ(pool->available(), 2u);
}

TEST(Pool, ALeaseTravelsThroughABufferAndBack) {
  const auto pool = make_pool(4096, 1);
  Lease lease = pool->acquire();
  std::byte* data = lease.data();
  std::memset(data, 42, 4096);
  aio::Buffer buffer = std::move(lease).release();
  EXPECT_FALSE(lease);
  EXPECT_EQ(buffer.data(), data);
  EXPECT_EQ(pool->available(), 0u);
  Lease back(std::move(buffer));
  EXPECT_EQ(back.data(), data);
  EXPECT_EQ(back.data()[4095], std::byte{42});
  EXPECT_EQ(pool->available(), 0u);
  back = Lease();
  EXPECT_EQ(pool->available(), 1u);
}

TEST(Pool, ABufferDroppedByAnIoComesBack) {
  const auto pool = make_pool(4096, 1);
  { const aio::Buffer abandoned = pool->acquire().release(); }
  EXPECT_EQ(pool->available(), 1u);
}

TEST(Pool, AnEmptyPoolRefusesOrGivesUpAtTheDeadline) {
  const auto pool = make_pool(4096, 1);
  const Lease only = pool->acquire();
  EXPECT_FALSE(pool->try_acquire());
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(pool->acquire_until(start + 30ms));
  EXPECT_GE(std::chrono::steady_clock::now() - start, 30ms);
}

// Waits until the thread sleeps in the kernel. False if that takes more than 10 s.
bool sleeps(pid_t thread) {
  for (int i = 0; i < 10'000; ++i) {
    std::ifstream stat("/proc/self/task/" + std::to_string(thread) + "/stat");
    std::string text;
    std::getline(stat, text);
    const std::size_t name_end = text.rfind(')');
    if (name_end != text.npos && text.substr(name_end, 3) == ") S") return true;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

// Three threads wait for one buffer, which then goes from one to the next. Empty if each got it.
std::string hand_a_buffer_round() {
  ::alarm(60);  // one that is not woken waits for ever
  const auto pool = make_pool(4096, 1);
  Lease held = pool->acquire();
  std::byte* const data = held.data();
  std::atomic<int> got = 0;
  std::array<std::promise<pid_t>, 3> waits;
  std::vector<std::thread> waiters;
  for (std::promise<pid_t>& wait : waits) {
    waiters.emplace_back([&] {
      wait.set_value(static_cast<pid_t>(::syscall(SYS_gettid)));
      const Lease lease = pool->acquire();
      if (lease.data() == data) ++got;
    });
  }
  for (std::promise<pid_t>& wait : waits) {
    if (!sleeps(wait.get_future().get())) return "a thread does not wait";
  }
  if (got != 0) return "a buffer was lent twice";
  held = Lease();
  for (std::thread& waiter : waiters) waiter.join();
  return got == 3 ? "" : "another buffer";
}

TEST(Pool, AcquireWaitsUntilABufferComesBack) { EXPECT_EQ(in_child(hand_a_buffer_round), ""); }

// Back-pressure: more threads than buffers. Each writes its number into its buffer and looks
// again later: no buffer is ever held by two, and no more are out than there are.
TEST(Pool, ManyThreadsShareFewBuffers) {
  constexpr std::size_t kBuffers = 3;
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  const auto pool = make_pool(4096, kBuffers);
  std::atomic<int> out = 0, most = 0, mixed_up = 0, rounds = 0;
  std::vector<std::thread> threads;
  for (unsigned id = 1; id <= 8; ++id) {
    threads.emplace_back([&, id] {
      std::mt19937 random(seed + id);
      for (int round = 0; round < 500; ++round) {
        Lease lease = random() % 4 == 0
                          ? pool->acquire_until(std::chrono::steady_clock::now() + 60s)
                          : pool->acquire();
        if (!lease) continue;
        const int now = ++out;
        for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
        }
        std::memset(lease.data(), static_cast<int>(id), lease.capacity());
        if (random() % 8 == 0) std::this_thread::yield();
        for (std::size_t k = 0; k < lease.capacity(); k += 64) {
          if (lease.data()[k] != std::byte(id)) ++mixed_up;
        }
        ++rounds;
        --out;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(mixed_up, 0);
  EXPECT_EQ(rounds, 8 * 500);
  EXPECT_LE(most, static_cast<int>(kBuffers));
  EXPECT_EQ(pool->available(), kBuffers);
}

TEST(Pool, ASizeThatCanNeverFitIsRefusedWithTheArithmetic) {
  const auto pool = make_pool(1 << 20, 4);
  EXPECT_TRUE(pool->can_hold(0));
  EXPECT_TRUE(pool->can_hold(1 << 20));
  const auto refused = pool->can_hold((1 << 20) + 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(pool->can_hold(3 << 20).error().detail,
            "3.0 MiB can never fit: test buffers are 4 x 1.0 MiB");
}

TEST(Pool, MoreThanTheMachineHasIsRefusedBeforeItIsTouched) {
  const auto pool =
      Pool::create({.buffer_bytes = std::size_t{1} << 40, .buffer_count = 64, .name = "vast"});
  ASSERT_FALSE(pool);
  EXPECT_EQ(pool.error().kind, ErrorKind::kNoMemory);
  EXPECT_THAT(pool.error().detail, HasSubstr("vast buffers 64 x 1.0 TiB = 64.0 TiB, but"));
  EXPECT_FALSE(Pool::create({.buffer_bytes = ~std::size_t{0} / 2, .buffer_count = 3}));
}

TEST(Pool, GoneBeforeItsLeaseItLeavesTheMemory) {
  auto pool = make_pool(4096, 2);
  Lease lease = pool->acquire();
  pool.reset();
  std::memset(lease.data(), 0x5a, lease.capacity());  // as a late device would
  EXPECT_EQ(lease.data()[4095], std::byte{0x5a});
  lease = Lease();  // and giving it back late is safe
}

TEST(PoolDeathTest, RefusesToBeEmpty) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const PoolOptions no_buffers{.buffer_bytes = 4096, .buffer_count = 0};
  const PoolOptions no_bytes{.buffer_bytes = 0, .buffer_count = 1};
  EXPECT_DEATH((void)Pool::create(no_buffers), "without buffers");
  EXPECT_DEATH((void)Pool::create(no_bytes), "empty buffers");
}

#if defined(__SANITIZE_ADDRESS__)
TEST(PoolDeathTest, AReturnedBufferIsPoisoned) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto pool = make_pool(4096, 1);
  std::byte* data = pool->acquire().data();
  EXPECT_DEATH(*const_cast<volatile std::byte*>(data) = std::byte{1}, "use-after-poison");
}
#endif

}  // namespace
}  // namespace spillway::pinned_pool
