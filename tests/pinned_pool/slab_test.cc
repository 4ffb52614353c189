#include "spillway/pinned_pool/slab.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <utility>

#include "spillway/pinned_pool/cuda_runtime.h"
#include "spillway/pinned_pool/limits.h"

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

TEST(SlabDeathTest, HoldsAtLeastOneByte) {
  EXPECT_DEATH((void)Slab::create({.size_bytes = 0}), "a slab of no bytes");
}

}  // namespace
}  // namespace spillway::pinned_pool
