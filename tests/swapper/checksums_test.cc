#include "checksums.h"

#include <gtest/gtest.h>
#include <spillway/swapper/tile_store.h>

#include <random>

namespace spillway::swapper {
namespace {

// Plane 1 is three blocks: two whole ones and 5 bytes.
constexpr std::uint64_t kElements = 2 * kChecksumBlockBytes + 5;
const Layout kLayout({{"half", 1, 2}, {"bytes", 1}});

class ChecksumsTest : public testing::Test {
 protected:
  ChecksumsTest() : sums_(kLayout, kElements), data_(kElements) {
    std::mt19937 random(1);
    for (std::byte& byte : data_) byte = std::byte(random());
    sums_.record(kIdentity, data_.data());
  }
  static constexpr PlaneIdentity kIdentity{.tile = 7, .plane = 1, .generation = 3};
  Checksums sums_;
  std::vector<std::byte> data_;
};

TEST_F(ChecksumsTest, PassesWhatWasRecorded) {
  EXPECT_EQ(sums_.first_mismatch(kIdentity, data_.data()), std::nullopt);
}

TEST_F(ChecksumsTest, FindsTheBlockOfAFlippedBit) {
  for (const std::size_t at : {std::size_t{0}, kChecksumBlockBytes - 1, kChecksumBlockBytes,
                               2 * kChecksumBlockBytes, std::size_t{kElements - 1}}) {
    for (int bit = 0; bit < 8; ++bit) {
      data_[at] ^= std::byte(1 << bit);
      EXPECT_EQ(sums_.first_mismatch(kIdentity, data_.data()), at / kChecksumBlockBytes);
      data_[at] ^= std::byte(1 << bit);
    }
  }
}

// A table that is asked about the wrong tile or generation must not say yes to equal bytes.
TEST_F(ChecksumsTest, SameBytesUnderAnotherIdentityDiffer) {
  EXPECT_EQ(sums_.first_mismatch({.tile = 8, .plane = 1, .generation = 3}, data_.data()), 0u);
  EXPECT_EQ(sums_.first_mismatch({.tile = 7, .plane = 1, .generation = 4}, data_.data()), 0u);
}

TEST_F(ChecksumsTest, TakesEightBytesABlock) {
  EXPECT_EQ(sums_.memory_bytes(), 8u * (2 + 3));  // plane 0 has half as many bytes
}

}  // namespace
}  // namespace spillway::swapper
