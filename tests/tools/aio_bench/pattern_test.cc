// What the test file holds can be told from anything else, byte by byte.
#include "tools/aio_bench/pattern.h"

#include <gtest/gtest.h>

#include <array>

#include "tools/aio_bench/target.h"
#include "tools/common/device_label.h"

namespace spillway::aio_bench {
namespace {

class PatternTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kOffset = 3 * Pattern::kPeriodBytes;
  static constexpr std::size_t kPages = 16;

  PatternTest() : data_(kPages * Pattern::kPageBytes) {
    pattern_.fill(data_);
    Pattern::stamp(data_, kOffset, 7);
    passes_.fill(7);
  }
  std::optional<std::uint64_t> wrong() const {
    return pattern_.wrong_page(data_, kOffset, passes_);
  }

  const Pattern pattern_;
  std::vector<std::byte> data_;
  std::array<std::uint32_t, kPages> passes_;
};

TEST_F(PatternTest, WhatWasWrittenIsRight) {
  EXPECT_EQ(wrong(), std::nullopt);
  EXPECT_EQ(Pattern::wrong_stamp(data_, kOffset, passes_), std::nullopt);
}

TEST_F(PatternTest, EveryBitCounts) {
  for (std::size_t at = 0; at < data_.size(); at += 1 + at % 97) {
    for (const int bit : {0, 5}) {
      data_[at] ^= std::byte(1 << bit);
      EXPECT_EQ(wrong(), kOffset + at / Pattern::kPageBytes * Pattern::kPageBytes) << at;
      data_[at] ^= std::byte(1 << bit);
    }
  }
}

TEST_F(PatternTest, AnotherPassOrAnotherPlaceIsWrong) {
  passes_[5] = 6;
  EXPECT_EQ(wrong(), kOffset + 5 * Pattern::kPageBytes);
  passes_[5] = 7;
  EXPECT_EQ(pattern_.wrong_page(data_, 0, passes_), 0u);  // the same bytes a period further on
}

TEST(DeviceLabel, NamesADriveOfAStripe) {
  aio::PathProbe probe;
  probe.block_device = "/dev/nvme0n1";
  EXPECT_EQ(device_label(probe), "/dev/nvme0n1");
  probe.device_model = "Fast 1";
  EXPECT_EQ(device_label(probe), "/dev/nvme0n1 (Fast 1)");
  EXPECT_TRUE(names_device("/dev/nvme1n1 + /dev/nvme0n1 (Fast 1)", "/dev/nvme0n1 (Fast 1)"));
  EXPECT_FALSE(names_device("/dev/nvme1n1 + /dev/nvme0n1 (Fast 12)", "/dev/nvme0n1 (Fast 1)"));
  EXPECT_FALSE(names_device("/dev/nvme0n1p2", "/dev/nvme0n1"));
}

}  // namespace
}  // namespace spillway::aio_bench
