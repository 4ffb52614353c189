#include "spillway/swapper/block_hash.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <vector>

namespace spillway::swapper {
namespace {

using Bytes = std::vector<std::byte>;

constexpr std::size_t kLine = BlockHash::kLineBytes;

Bytes random_bytes(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  Bytes bytes(size);
  for (std::byte& byte : bytes) byte = std::byte(random());
  return bytes;
}

// What training leaves in a block: small values of both signs, many of the same exponent.
Bytes moments(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 1e-4f);
  std::vector<float> values(size / sizeof(float));
  for (float& value : values) value = normal(random);
  Bytes bytes(size);
  std::memcpy(bytes.data(), values.data(), size);
  return bytes;
}

std::uint64_t value_of(const Bytes& bytes, std::uint64_t seed = 0) {
  BlockHash hash;
  hash.add(bytes);
  return hash.value(bytes.size(), seed);
}

// Of a change that is undone by the same change.
class DamageTest : public testing::Test {
 protected:
  template <typename Change>
  void expect_seen(const Change& change) {
    const Bytes before = block_;
    change(block_);
    if (block_ != before) {
      ++damaged_;
      EXPECT_NE(value_of(block_), value_);
    }
    block_ = before;
  }
  void flip(std::size_t bit) { block_[bit / 8] ^= std::byte(1 << bit % 8); }

  static constexpr std::size_t kBytes = 8192;
  Bytes block_ = moments(kBytes, 3);
  const std::uint64_t value_ = value_of(block_);
  int damaged_ = 0;
};

TEST(BlockHash, ItsRoundIsThatOfFips197) {
  // Appendix B, round 1: the state at its start, the round key, the state at the start of round 2.
  constexpr std::uint8_t kState[] = {0x19, 0x3d, 0xe3, 0xbe, 0xa0, 0xf4, 0xe2, 0x2b,
                                     0x9a, 0xc6, 0x8d, 0x2a, 0xe9, 0xf8, 0x48, 0x08};
  constexpr std::uint8_t kKey[] = {0xa0, 0xfa, 0xfe, 0x17, 0x88, 0x54, 0x2c, 0xb1,
                                   0x23, 0xa3, 0x39, 0x39, 0x2a, 0x6c, 0x76, 0x05};
  constexpr std::uint8_t kNext[] = {0xa4, 0x9c, 0x7f, 0xf2, 0x68, 0x9f, 0x35, 0x2b,
                                    0x6b, 0x5b, 0xea, 0x43, 0x02, 0x6a, 0x50, 0x49};
  BlockHash fast, plain;
  Bytes line(kLine);
  for (std::size_t lane = 0; lane < kLine; lane += 16) {
    std::memcpy(&fast.lanes[lane], kState, 16);
    std::memcpy(&plain.lanes[lane], kState, 16);
    std::memcpy(&line[lane], kKey, 16);
  }
  fast.add(line);
  plain.add_reference(line);
  for (std::size_t lane = 0; lane < kLine; lane += 16) {
    EXPECT_EQ(std::memcmp(&fast.lanes[lane], kNext, 16), 0);
    EXPECT_EQ(std::memcmp(&plain.lanes[lane], kNext, 16), 0);
  }
}

TEST(BlockHash, TheCpusRoundsAreTheReferencesAtEverySize) {
  const Bytes bytes = random_bytes(600, 1);
  for (std::size_t size = 0; size <= bytes.size(); ++size) {
    BlockHash fast, plain;
    fast.add(std::span(bytes).first(size));
    plain.add_reference(std::span(bytes).first(size));
    ASSERT_EQ(fast.lanes, plain.lanes) << size;
    EXPECT_EQ(fast.value(size, 5), plain.value(size, 5));
  }
}

TEST(BlockHash, IsTheSameInParts) {
  const Bytes bytes = random_bytes(20 * kLine + 13, 2);
  for (std::size_t lines = 0; lines <= 20; ++lines) {
    BlockHash hash;
    hash.add(std::span(bytes).first(lines * kLine));
    hash.add(std::span(bytes).subspan(lines * kLine));
    EXPECT_EQ(hash.value(bytes.size(), 0), value_of(bytes));
  }
}

// What is stored in a checkpoint today must be read tomorrow, and on other machines.
TEST(BlockHash, ItsValuesAreForEver) {
  EXPECT_EQ(value_of({}), 4106767952990210715u);
  EXPECT_EQ(value_of(Bytes(64)), 15862528203244241341u);
  Bytes counted(1000);
  for (std::size_t i = 0; i < counted.size(); ++i) counted[i] = std::byte(i);
  EXPECT_EQ(value_of(counted, 7), 472107003964886777u);
}

TEST_F(DamageTest, EveryFlippedBit) {
  for (std::size_t bit = 0; bit < kBytes * 8; ++bit) {
    flip(bit);
    ASSERT_NE(value_of(block_), value_) << bit;
    flip(bit);
  }
}

// The same bit of two words, at all distances that are powers of two: what sums of words miss in
// their upper bits.
TEST_F(DamageTest, TheSameBitOfTwoWords) {
  for (std::size_t distance = 8; distance < kBytes; distance *= 2) {
    for (std::size_t at = 0; at + distance < kBytes; at += distance < kLine ? 8 : kLine) {
      for (const std::size_t bit : {0, 31, 32, 62, 63}) {
        flip(at * 8 + bit);
        flip((at + distance) * 8 + bit);
        ASSERT_NE(value_of(block_), value_) << at << " + " << distance << ", bit " << bit;
        flip(at * 8 + bit);
        flip((at + distance) * 8 + bit);
      }
    }
  }
}

TEST_F(DamageTest, AnyTwoBits) {
  std::mt19937_64 random(4);
  for (int i = 0; i < 20'000; ++i) {
    const std::size_t one = random() % (kBytes * 8), other = random() % (kBytes * 8);
    expect_seen([&](Bytes&) {
      flip(one);
      flip(other);
    });
  }
  EXPECT_GT(damaged_, 19'900);
}

TEST_F(DamageTest, BytesThatChangedPlaces) {
  std::mt19937_64 random(5);
  for (const std::size_t size : {4, 8, 16, 64, 512, 4096}) {
    for (int i = 0; i < 2000; ++i) {
      const std::size_t one = random() % (kBytes / size) * size;
      const std::size_t other =
          i % 2 == 0 ? (one + size) % kBytes : random() % kBytes / size * size;
      expect_seen([&](Bytes& block) {
        if (one == other) return;
        std::swap_ranges(&block[one], &block[one] + size, &block[other]);
      });
    }
  }
  EXPECT_GT(damaged_, 10'000);
}

TEST_F(DamageTest, LanesThatChangedPlaces) {
  std::array<std::size_t, 4> order = {0, 1, 2, 3};
  while (std::ranges::next_permutation(order).found) {
    expect_seen([&](Bytes& block) {
      const Bytes before = block;
      for (std::size_t at = 0; at < kBytes; at += 16) {
        std::memcpy(&block[at], &before[at / kLine * kLine + order[at / 16 % 4] * 16], 16);
      }
    });
  }
  EXPECT_EQ(damaged_, 23);
}

TEST_F(DamageTest, Bursts) {
  std::mt19937_64 random(6);
  for (int i = 0; i < 5000; ++i) {
    const std::size_t length = 1 + random() % 600, start = random() % (kBytes - length);
    expect_seen([&](Bytes& block) {
      for (std::size_t k = 0; k < length; ++k) block[start + k] = std::byte(random());
    });
    expect_seen([&](Bytes& block) { std::memset(&block[start], i % 2 == 0 ? 0 : 255, length); });
  }
  EXPECT_GT(damaged_, 9900);
}

TEST_F(DamageTest, ATornOrShiftedBlock) {
  const Bytes other = moments(kBytes, 9);
  for (std::size_t at = 512; at < kBytes; at += 512) {
    expect_seen([&](Bytes& block) { std::ranges::copy(std::span(other).subspan(at), &block[at]); });
    expect_seen([&](Bytes& block) { std::ranges::rotate(block, block.begin() + long(at)); });
  }
  for (std::size_t by = 1; by < 300; ++by) {
    expect_seen([&](Bytes& block) { std::ranges::rotate(block, block.begin() + long(by)); });
  }
}

// Every block of one kind, none with the value of another.
TEST(BlockHash, BlocksOfZerosWithAWordSomewhere) {
  std::set<std::uint64_t> values;
  std::size_t blocks = 0;
  for (const int filler : {0x01, 0x80, 0xff}) {
    for (std::size_t at = 0; at < 16384; at += 16, ++blocks) {
      Bytes block(16384);
      std::memset(&block[at], filler, 16);
      values.insert(value_of(block));
    }
  }
  EXPECT_EQ(values.size(), blocks);
}

TEST(BlockHash, BlocksOfOneByteAndOfAnySize) {
  std::set<std::uint64_t> values;
  for (int filler = 0; filler < 256; ++filler)
    values.insert(value_of(Bytes(4096, std::byte(filler))));
  for (std::size_t size = 0; size < 4096; ++size) values.insert(value_of(Bytes(size)));
  EXPECT_EQ(values.size(), 256u + 4096u);
}

TEST(BlockHash, TheSeedCounts) {
  const Bytes block = moments(4096, 1);
  std::set<std::uint64_t> values;
  for (std::uint64_t seed = 0; seed < 1000; ++seed) values.insert(value_of(block, seed));
  EXPECT_EQ(values.size(), 1000u);
}

}  // namespace
}  // namespace spillway::swapper
