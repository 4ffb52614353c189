#include "spillway/pinned_pool/slab.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <thread>
#include <utility>

#include "spillway/pinned_pool/cuda_runtime.h"
#include "spillway/pinned_pool/limits.h"
#include "spillway/pinned_pool/pool.h"
#include "support/child.h"

namespace spillway::pinned_pool {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::size_t kMiB = 1 << 20;

void fill(const Slab& slab, int value) { std::memset(slab.data(), value, slab.size_bytes()); }

TEST(Slab, PaysForTheBytesAskedForAndNotForAPowerOfTwo) {
  for (const std::size_t size : {std::size_t{1}, std::size_t{4096}, 5 * kMiB + 1}) {
    auto slab = Slab::create({.size_bytes = size, .huge_pages = Policy::kOff});
    ASSERT_TRUE(slab) << slab.error().message();
    EXPECT_EQ(slab->size_bytes(), (size + 4095) / 4096 * 4096);
    fill(*slab, 7);
    EXPECT_EQ(slab->data()[slab->size_bytes() - 1], std::byte{7});
  }
}

TEST(Slab, MovesWithItsMemory) {
  auto made = Slab::create({.size_bytes = kMiB});
  ASSERT_TRUE(made);
  std::byte* data = made->data();
  fill(*made, 3);
  Slab moved = std::move(*made);
  EXPECT_EQ(moved.data(), data);
  auto other = Slab::create({.size_bytes = kMiB});
  ASSERT_TRUE(other);
  *other = std::move(moved);
  EXPECT_EQ(other->data(), data);
  EXPECT_EQ(other->data()[kMiB - 1], std::byte{3});
}

TEST(Slab, WithoutHugetlbItLiesReadyForTransparentHugePages) {
  if (MemoryLimits::read().free_huge_page_bytes > 0) GTEST_SKIP() << "there are free huge pages";
  auto slab = Slab::create({.size_bytes = 8 * kMiB});
  ASSERT_TRUE(slab) << slab.error().message();
  EXPECT_EQ(slab->huge_page_bytes(), 0u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(slab->data()) % (2 * kMiB), 0u);
  EXPECT_THAT(slab->report(), Contains(AllOf(StartsWith("huge pages: "),
                                             HasSubstr("8.0 MiB need 4 huge pages of 2.0 MiB, 0 "
                                                       "free"))));
}

TEST(Slab, AWishThatWasNotMadeIsNotReported) {
  auto slab = Slab::create({.size_bytes = 8 * kMiB,
                            .huge_pages = Policy::kOff,
                            .lock = Policy::kOff,
                            .cuda = Policy::kOff});
  ASSERT_TRUE(slab);
  EXPECT_THAT(slab->report(), ::testing::IsEmpty());
  EXPECT_FALSE(slab->locked());
}

TEST(Slab, MoreThanTheAddressSpaceIsAnError) {
  for (const std::size_t size : {std::size_t{1} << 60, ~std::size_t{0} - 5}) {
    const auto slab = Slab::create({.size_bytes = size, .huge_pages = Policy::kOff});
    ASSERT_FALSE(slab);
    EXPECT_EQ(slab.error().kind, ErrorKind::kNoMemory);
    EXPECT_EQ(slab.error().errno_value, ENOMEM);
  }
}

TEST(Slab, CudaIsRegisteredOrTheReasonIsGiven) {
  auto slab = Slab::create({.size_bytes = kMiB, .huge_pages = Policy::kOff});
  ASSERT_TRUE(slab);
  if (cuda_status().device_count > 0) {
    EXPECT_TRUE(slab->cuda_registered());
    return;
  }
  EXPECT_FALSE(slab->cuda_registered());
  EXPECT_NE(cuda_status().reason, "");
  EXPECT_THAT(slab->report(),
              Contains(AllOf(StartsWith("CUDA: "), HasSubstr(cuda_status().reason))));
  const auto required = Slab::create({.size_bytes = kMiB, .cuda = Policy::kRequired});
  ASSERT_FALSE(required);
  EXPECT_EQ(required.error().kind, ErrorKind::kUnsupported);
}

// The kernel charges a page when it is touched; a plan made before that must know of it.
TEST(Slab, CountsAsTakenFromTheStart) {
  constexpr std::size_t kSize = 80 * kMiB + 4096;  // more than is looked at in one step
  const SlabOptions options{
      .size_bytes = kSize, .huge_pages = Policy::kOff, .lock = Policy::kOff, .cuda = Policy::kOff};
  const std::uint64_t before = MemoryLimits::read().untouched_bytes;
  const auto untouched = [&] { return MemoryLimits::read().untouched_bytes - before; };
  {
    auto slab = Slab::create(options);
    ASSERT_TRUE(slab) << slab.error().message();
    EXPECT_EQ(untouched(), kSize);
    const Slab moved = std::move(*slab);
    std::memset(moved.data() + kMiB, 1, 30 * kMiB);
    EXPECT_EQ(untouched(), kSize - 30 * kMiB);
    fill(moved, 2);
    EXPECT_EQ(untouched(), 0u);
    auto other = Slab::create(options);
    ASSERT_TRUE(other);
    EXPECT_EQ(untouched(), kSize);
  }
  EXPECT_EQ(untouched(), 0u);
}

TEST(Slab, TwoThatDoNotFitTogetherAreRefusedBeforeEitherIsTouched) {
  const std::uint64_t available = MemoryLimits::read().available_bytes;
  const PoolOptions options{.buffer_bytes = available / 8 * 5,
                            .buffer_count = 1,
                            .name = "large",
                            .huge_pages = Policy::kOff,
                            .lock = Policy::kOff,
                            .cuda = Policy::kOff};
  const auto first = Pool::create(options);
  if (!first) GTEST_SKIP() << first.error().message();
  const auto second = Pool::create(options);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().detail, HasSubstr("mapped and not touched yet"));
}

// What a child finds at the slab's address: 0 if nothing is there, else the first byte.
int first_byte_in_a_child(const Slab& slab) {
  const pid_t child = fork();
  if (child == 0) {
    unsigned char page = 0;
    if (mincore(slab.data(), 4096, &page) != 0) _exit(0);
    _exit(std::to_integer<int>(slab.data()[0]));
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

TEST(Slab, AChildSharesWhatIsLockedAndHasNothingThatIsRegistered) {
  auto slab = Slab::create({.size_bytes = 8 * kMiB, .huge_pages = Policy::kOff});
  ASSERT_TRUE(slab) << slab.error().message();
  fill(*slab, 7);
  if (!slab->cuda_registered()) {
    EXPECT_EQ(first_byte_in_a_child(*slab), 7);
  }
  auto engine = aio::Engine::create({});
  ASSERT_TRUE(engine) << engine.error().message();
  if ((*engine)->backend_name() == std::string_view("threads")) {
    GTEST_SKIP() << "no io_uring: " << (*engine)->choice();
  }
  const auto registered = slab->register_with(**engine, Policy::kRequired);
  if (!registered) GTEST_SKIP() << registered.error().message();
  EXPECT_EQ(first_byte_in_a_child(*slab), 0);
  EXPECT_EQ(slab->data()[0], std::byte{7});
  slab = Slab::create({.size_bytes = kMiB});  // the engine outlives the registered one
}

// The address range of memory that a child does not have may be somebody else's there.
TEST(Slab, TheDestructorInAChildUnmapsNothing) {
  auto engine = aio::Engine::create({});
  ASSERT_TRUE(engine) << engine.error().message();
  auto slab = Slab::create({.size_bytes = kMiB, .huge_pages = Policy::kOff});
  ASSERT_TRUE(slab) << slab.error().message();
  const auto registered = slab->register_with(**engine, Policy::kRequired);
  if (!registered || (*engine)->backend_name() == std::string_view("threads")) {
    GTEST_SKIP() << "no memory is registered with a ring here: " << (*engine)->choice();
  }
  const auto body = [&]() -> std::string {
    void* const theirs = mmap(slab->data(), 4096, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (theirs != slab->data()) return "the child has the memory";
    { const Slab gone = std::move(*slab); }
    unsigned char page = 0;
    return mincore(theirs, 4096, &page) == 0 ? "" : "unmapped what is not its own";
  };
  EXPECT_EQ(in_child(body, 10), "");
  slab = Slab::create({.size_bytes = kMiB});  // the engine outlives the registered one
}

// While a thread of the parent is inside of the count of all mappings.
TEST(Slab, AChildMayMakeOneOfItsOwn) {
  // What is made once for the process is there: a child that is forked while it is being made waits
  // for ever.
  ASSERT_TRUE(Slab::create({.size_bytes = 4096, .huge_pages = Policy::kOff}));
  std::atomic<bool> over{false};
  std::thread busy([&] {
    while (!over) EXPECT_TRUE(Slab::create({.size_bytes = 4096, .huge_pages = Policy::kOff}));
  });
  for (int i = 0; i < 50; ++i) {
    const std::string problem = in_child(
        []() -> std::string {
          const auto own = Slab::create({.size_bytes = 4096, .huge_pages = Policy::kOff});
          return own ? "" : own.error().message();
        },
        10);
    EXPECT_EQ(problem, "");
    if (!problem.empty()) break;
  }
  over = true;
  busy.join();
}

TEST(Slab, IsForgottenByTheEngineWhenItGoes) {
  auto engine = aio::Engine::create({});
  ASSERT_TRUE(engine) << engine.error().message();
  const auto registered = [] { return MemoryLimits::read().registered_bytes; };
  const std::uint64_t before = registered();
  {
    auto slab = Slab::create({.size_bytes = 4 * kMiB, .huge_pages = Policy::kOff});
    ASSERT_TRUE(slab);
    if (!slab->register_with(**engine, Policy::kRequired) || registered() < before + 4 * kMiB) {
      GTEST_SKIP() << "nothing is registered, or the kernel does not count it";
    }
  }
  EXPECT_EQ(registered(), before);
}

TEST(Slab, IsPinnedIfItIsLockedOrRegistered) {
  const SlabOptions options{
      .size_bytes = kMiB, .huge_pages = Policy::kOff, .lock = Policy::kOff, .cuda = Policy::kOff};
  auto threads = aio::Engine::create({.backend = aio::BackendKind::kThreadPool});
  auto rings = aio::Engine::create({});
  ASSERT_TRUE(threads && rings);
  auto slab = Slab::create(options);
  ASSERT_TRUE(slab);
  EXPECT_FALSE(slab->pinned());
  ASSERT_TRUE(slab->register_with(**threads));
  EXPECT_FALSE(slab->pinned()) << "reads and writes of threads know no registration";
  if ((*rings)->backend_name() != std::string_view("threads") &&
      slab->register_with(**rings, Policy::kRequired)) {
    EXPECT_TRUE(slab->pinned());
  }
  slab = Slab::create({.size_bytes = kMiB, .huge_pages = Policy::kOff, .cuda = Policy::kOff});
  ASSERT_TRUE(slab);
  EXPECT_EQ(slab->pinned(), slab->locked());
}

TEST(SlabDeathTest, HoldsAtLeastOneByte) {
  EXPECT_DEATH((void)Slab::create({.size_bytes = 0}), "a slab of no bytes");
}

}  // namespace
}  // namespace spillway::pinned_pool
