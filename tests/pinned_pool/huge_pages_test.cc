// Slabs on hugetlb pages. Changes the machine's number of huge pages for a moment: runs alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "spillway/pinned_pool/limits.h"
#include "spillway/pinned_pool/slab.h"

namespace spillway::pinned_pool {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr std::size_t kMiB = 1 << 20;

// Reserves huge pages for one test, and puts the old number back.
class HugePages : public ::testing::Test {
 protected:
  static constexpr const char* kCount = "/proc/sys/vm/nr_hugepages";

  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "reserving huge pages needs root";
    std::ifstream(kCount) >> before_;
    std::ofstream(kCount) << before_ + 4;
    const MemoryLimits limits = MemoryLimits::read();
    page_ = limits.huge_page_bytes;
    if (page_ != 2 * kMiB || limits.free_huge_page_bytes < 4 * page_) {
      GTEST_SKIP() << "the kernel gave no 4 huge pages of 2 MiB";
    }
    others_ = limits.free_huge_page_bytes / page_ - 4;
  }
  void TearDown() override {
    if (before_ >= 0) std::ofstream(kCount) << before_;
  }

  long before_ = -1;
  std::size_t page_ = 0;
  std::size_t others_ = 0;  // free pages that were there before
};

TEST_F(HugePages, AreTakenCountedAndGivenBack) {
  const MemoryUsage before = memory_usage();
  const std::uint64_t free_before = MemoryLimits::read().free_huge_page_bytes;
  {
    auto slab = Slab::create({.size_bytes = 4 * page_});
    ASSERT_TRUE(slab) << slab.error().message();
    EXPECT_EQ(slab->huge_page_bytes(), 4 * page_);
    EXPECT_TRUE(slab->locked());
    EXPECT_THAT(slab->report(), Not(Contains(StartsWith("huge pages"))));
    std::memset(slab->data(), 9, slab->size_bytes());
    const MemoryUsage during = memory_usage();
    EXPECT_EQ(during.huge_page_bytes, before.huge_page_bytes + 4 * page_);
    EXPECT_GE(during.resident_bytes, during.huge_page_bytes + before.resident_bytes / 2);
    EXPECT_EQ(MemoryLimits::read().free_huge_page_bytes, free_before - 4 * page_);
  }
  const MemoryUsage after = memory_usage();
  EXPECT_EQ(after.huge_page_bytes, before.huge_page_bytes);
  EXPECT_GE(after.peak_resident_bytes, after.resident_bytes + 4 * page_);
  EXPECT_EQ(MemoryLimits::read().free_huge_page_bytes, free_before);
}

TEST_F(HugePages, TooFewAreReportedOrRefusedByThePolicy) {
  const std::size_t size = (others_ + 5) * page_;
  auto fallen_back = Slab::create({.size_bytes = size});
  ASSERT_TRUE(fallen_back) << fallen_back.error().message();
  EXPECT_EQ(fallen_back->huge_page_bytes(), 0u);
  EXPECT_THAT(fallen_back->report(), Contains(HasSubstr("huge pages of 2.0 MiB, " +
                                                        std::to_string(others_ + 4) + " free")));
  const auto refused = Slab::create({.size_bytes = size, .huge_pages = Policy::kRequired});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kNoMemory);
}

TEST_F(HugePages, AreNotWastedOnASmallSlabUnlessDemanded) {
  auto small = Slab::create({.size_bytes = page_ + 4096});
  ASSERT_TRUE(small);
  EXPECT_EQ(small->huge_page_bytes(), 0u);
  EXPECT_EQ(small->size_bytes(), page_ + 4096);
  EXPECT_THAT(small->report(), Contains(HasSubstr("which wastes 2.0 MiB")));
  auto demanded = Slab::create({.size_bytes = page_ + 4096, .huge_pages = Policy::kRequired});
  ASSERT_TRUE(demanded) << demanded.error().message();
  EXPECT_EQ(demanded->huge_page_bytes(), 2 * page_);
}

}  // namespace
}  // namespace spillway::pinned_pool
