#include "checksums.h"

#include <gtest/gtest.h>
#include <spillway/swapper/tile_store.h>

#include <random>

namespace spillway::swapper {
namespace {

// Plane 1 is three blocks: two whole ones and 5 bytes.
constexpr std::size_t kBlockBytes = kRangeElements;
constexpr std::uint64_t kElements = 2 * kRangeElements + 5;
const Layout kLayout({{"half", 1, 2}, {"bytes", 1}});

class ChecksumsTest : public testing::Test {
 protected:
  ChecksumsTest() : sums_(kLayout, kElements), data_(kElements) {
    std::mt19937 random(1);
    for (std::byte& byte : data_) byte = std::byte(random());
    sums_.record(kIdentity, data_.data());
  }
  std::optional<std::size_t> mismatch(const PlaneIdentity& identity = kIdentity) {
    return sums_.first_mismatch(identity, data_.data(), sums_.blocks(1));
  }
  static constexpr PlaneIdentity kIdentity{.tile = 7, .plane = 1, .generation = 3};
  TileChecksums sums_;
  std::vector<std::byte> data_;
};

TEST_F(ChecksumsTest, PassesWhatWasRecorded) { EXPECT_EQ(mismatch(), std::nullopt); }

TEST_F(ChecksumsTest, FindsTheBlockOfAFlippedBit) {
  for (const std::size_t at : {std::size_t{0}, kBlockBytes - 1, kBlockBytes, 2 * kBlockBytes,
                               std::size_t{kElements - 1}}) {
    for (int bit = 0; bit < 8; ++bit) {
      data_[at] ^= std::byte(1 << bit);
      EXPECT_EQ(mismatch(), at / kBlockBytes);
      data_[at] ^= std::byte(1 << bit);
    }
  }
}

// A table that is asked about the wrong tile or generation must not say yes to equal bytes.
TEST_F(ChecksumsTest, SameBytesUnderAnotherIdentityDiffer) {
  EXPECT_EQ(mismatch({.tile = 8, .plane = 1, .generation = 3}), 0u);
  EXPECT_EQ(mismatch({.tile = 7, .plane = 1, .generation = 4}), 0u);
}

TEST_F(ChecksumsTest, ARangeIsItsOwnBlocks) {
  data_[kBlockBytes] ^= std::byte{1};
  const auto in = [&](std::uint64_t first, std::uint64_t count) {
    return sums_.first_mismatch(kIdentity, data_.data(),
                                sums_.blocks(1, {.first = first, .count = count}));
  };
  EXPECT_EQ(in(0, kRangeElements), std::nullopt);
  EXPECT_EQ(in(0, kElements), 1u);
  EXPECT_EQ(in(kRangeElements, kRangeElements), 1u);
  EXPECT_EQ(in(2 * kRangeElements, 5), std::nullopt);
}

TEST_F(ChecksumsTest, HashedByRangesIsHashedWhole) {
  std::vector<std::uint64_t> values(3);
  for (const std::size_t block : {std::size_t{2}, std::size_t{0}, std::size_t{1}}) {
    sums_.hash(kIdentity, data_.data(), {block, block + 1}, values);
  }
  TileChecksums other(kLayout, kElements);
  other.adopt(1, values);
  EXPECT_EQ(other.first_mismatch(kIdentity, data_.data(), other.blocks(1)), std::nullopt);
}

TEST_F(ChecksumsTest, TakesEightBytesABlock) { EXPECT_EQ(sums_.memory_bytes(), 8u * (3 + 3)); }

TEST(ChecksumBlocks, AreOfOneRangeAndNotTooLarge) {
  const auto bytes = [](std::uint32_t per_block, std::uint32_t elements) {
    return checksum_block_bytes(
        {.name = "", .bytes_per_block = per_block, .elements_per_block = elements});
  };
  EXPECT_EQ(bytes(2, 1), 64u << 10);
  EXPECT_EQ(bytes(4, 1), 128u << 10);
  EXPECT_EQ(bytes(8, 1), 256u << 10);
  EXPECT_EQ(bytes(4, 256), 512u);                   // a scale for 256 elements
  EXPECT_EQ(bytes(16, 1), 256u << 10);              // half a range
  EXPECT_EQ(bytes(12, 1), (256u << 10) / 16 * 12);  // 16384 elements: a divisor of a range
  EXPECT_EQ(bytes(1 << 20, 1), 1u << 20);           // one block of the plane at least
  EXPECT_EQ(bytes(2 << 20, 1 << 20), 2u << 20);     // also where it is more than a range
  EXPECT_EQ(bytes(2, 100), 654u);                   // 327 blocks: no range is whole ones
}

}  // namespace
}  // namespace spillway::swapper
