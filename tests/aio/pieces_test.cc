// How requests are cut, and how registered memory is found: no device needed.
#include "piece.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <numeric>

#include "bounce_buffers.h"
#include "registered_memory.h"
#include "support/scratch.h"

namespace spillway::aio {
namespace {

constexpr std::uint32_t kBlock = 16384;

std::vector<Piece> cut_all(const File& file, std::uint64_t offset, std::size_t size_bytes,
                           std::uintptr_t address, Direction direction = Direction::kRead,
                           std::uint32_t block_size_bytes = kBlock) {
  PendingRequest request;
  auto* memory = reinterpret_cast<std::byte*>(address);  // never looked into
  request.begin(direction, {.file = &file, .offset = offset, .size_bytes = size_bytes},
                Buffer::borrow({memory, size_bytes}), nullptr);
  std::vector<Piece> pieces;
  for (std::uint64_t from = offset; from < request.end(); from += pieces.back().keep_bytes) {
    pieces.push_back(cut_piece(request, from, block_size_bytes));
  }
  return pieces;
}

TEST(Pieces, CoverTheRequestOnceAndKeepToTheAlignment) {
  Scratch scratch;
  auto file = File::create(scratch / "x", {});
  ASSERT_TRUE(file);
  if (!file->direct()) GTEST_SKIP() << "no direct I/O here: " << file->why_not_direct();
  const std::uint32_t alignment = block_alignment(*file);
  for (std::uint64_t offset : {0u, 1u, 511u, 4096u, 4097u, 16384u, 20000u}) {
    for (std::size_t size_bytes : {1u, 511u, 512u, 4096u, 4097u, 50000u, 300000u}) {
      for (std::uintptr_t address : {1u << 20, (1u << 20) + 1, (1u << 20) + 512}) {
        std::uint64_t at = offset;
        for (const Piece& piece : cut_all(*file, offset, size_bytes, address)) {
          EXPECT_EQ(piece.offset % alignment, 0u);
          EXPECT_EQ(piece.size_bytes % alignment, 0u);
          EXPECT_GT(piece.keep_bytes, 0u);
          EXPECT_EQ(piece.offset + piece.skip_bytes, at);
          EXPECT_LE(piece.skip_bytes + piece.keep_bytes, piece.size_bytes);
          EXPECT_EQ(reinterpret_cast<std::uintptr_t>(piece.data), address + (at - offset));
          if (piece.route == Route::kEdge) {
            EXPECT_EQ(piece.size_bytes, alignment);
          } else {
            EXPECT_EQ(piece.keep_bytes, piece.size_bytes);
            EXPECT_LE(piece.size_bytes, kBlock);
          }
          if (piece.route == Route::kDirect) {
            EXPECT_EQ((address + (at - offset)) % file->memory_alignment(), 0u);
          }
          at += piece.keep_bytes;
        }
        EXPECT_EQ(at, offset + size_bytes);
      }
    }
  }
}

// The default block is four times as large as a bounce buffer.
TEST(Pieces, NoneIsLargerThanTheBounceBufferThatItNeeds) {
  Scratch scratch;
  auto file = File::create(scratch / "x", {});
  ASSERT_TRUE(file);
  if (!file->direct()) GTEST_SKIP() << "no direct I/O here: " << file->why_not_direct();
  const std::uint32_t block_size_bytes = EngineOptions().block_size_bytes;
  ASSERT_GT(block_size_bytes, kBounceBytes);
  for (Direction direction : {Direction::kRead, Direction::kWrite}) {
    bool bounced = false;
    for (const Piece& piece :
         cut_all(*file, 100, 5'000'000, (1 << 20) + 1, direction, block_size_bytes)) {
      if (!needs_bounce(piece)) continue;
      EXPECT_LE(piece.size_bytes, kBounceBytes);
      bounced = true;
    }
    EXPECT_TRUE(bounced);
  }
}

TEST(Pieces, AWriteGivesThePagesThatItCoversInPartToThePageCache) {
  Scratch scratch;
  auto file = File::create(scratch / "x", {});
  ASSERT_TRUE(file);
  if (!file->direct()) GTEST_SKIP() << "no direct I/O here: " << file->why_not_direct();
  const std::uint64_t page = file->offset_alignment();
  EXPECT_GE(page, 4096u) << "whatever the device's blocks";
  for (std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{512}, page}) {
    for (std::size_t size_bytes : {1u, 512u, 4096u, 5000u, 50000u}) {
      std::uint64_t at = offset;
      for (const Piece& piece : cut_all(*file, offset, size_bytes, 1 << 20, Direction::kWrite)) {
        EXPECT_EQ(piece.offset + piece.skip_bytes, at);
        if (piece.route == Route::kPageCache) {
          EXPECT_EQ(piece.offset / page, (piece.offset + piece.size_bytes - 1) / page);
          EXPECT_LT(piece.size_bytes, page);
          EXPECT_EQ(piece.size_bytes, piece.keep_bytes);
        } else {
          EXPECT_NE(piece.route, Route::kEdge);
          EXPECT_EQ(piece.offset % page + piece.size_bytes % page, 0u);
        }
        at += piece.keep_bytes;
      }
      EXPECT_EQ(at, offset + size_bytes);
    }
  }
}

TEST(Pieces, AlignedRequestsUseTheMemoryInPlace) {
  Scratch scratch;
  auto file = File::create(scratch / "x", {});
  ASSERT_TRUE(file);
  std::vector<Piece> pieces = cut_all(*file, 4096, 3 * kBlock, 1 << 20);
  EXPECT_EQ(pieces.size(), 3u);
  for (const Piece& piece : pieces) EXPECT_EQ(piece.route, Route::kDirect);
}

TEST(Pieces, ThePageCacheNeedsNoEdges) {
  Scratch scratch;
  auto file = File::create(scratch / "x", {.direct = Direct::kOff});
  ASSERT_TRUE(file);
  for (const Piece& piece : cut_all(*file, 7, 3 * kBlock, 4099)) {
    EXPECT_EQ(piece.route, Route::kDirect);
  }
}

std::byte* at(std::uintptr_t address) { return reinterpret_cast<std::byte*>(address); }

// A device may still write into one of them.
TEST(BounceBuffers, StayMappedOnceTheyAreLeaked) {
  const auto is_mapped = [](std::byte* page) { return ::msync(page, 4096, MS_ASYNC) == 0; };
  std::byte* kept = nullptr;
  std::byte* gone = nullptr;
  {
    BounceBuffers leaked(2), dropped(2);
    ASSERT_TRUE(leaked.map());
    ASSERT_TRUE(dropped.map());
    kept = leaked.take();
    gone = dropped.take();
    leaked.leak();
  }
  EXPECT_TRUE(is_mapped(kept));
  EXPECT_FALSE(is_mapped(gone));
}

TEST(RegisteredMemory, FindsTheSlotThatHoldsAllOfAnOperation) {
  RegisteredMemory memory(16);
  std::span<std::byte> low(at(0x10000), 0x4000);
  std::span<std::byte> high(at(0x40000), 0x1000);
  for (auto span : {high, low}) {
    for (const auto& slot : memory.plan(span)) memory.add(slot);
  }
  auto first = memory.find(at(0x10000), 0x4000);
  ASSERT_TRUE(first);
  EXPECT_EQ(memory.find(at(0x13fff), 1), first);
  auto second = memory.find(at(0x40800), 0x800);
  ASSERT_TRUE(second);
  EXPECT_NE(*first, *second);
  EXPECT_FALSE(memory.find(at(0xffff), 1));
  EXPECT_FALSE(memory.find(at(0x13fff), 2));
  EXPECT_FALSE(memory.find(at(0x14000), 1));
  EXPECT_FALSE(memory.find(at(0x40800), 0x801));
  EXPECT_EQ(memory.take(low).size(), 1u);
  EXPECT_FALSE(memory.find(at(0x10000), 1));
  EXPECT_TRUE(memory.find(at(0x40000), 1));
}

TEST(RegisteredMemory, TakesASlotForEachGibibyteAndGivesThemBack) {
  RegisteredMemory memory(4);
  constexpr std::size_t kGiB = std::size_t{1} << 30;
  std::span<std::byte> large(at(kGiB), 2 * kGiB + 4096);
  auto slots = memory.plan(large);
  ASSERT_EQ(slots.size(), 3u);
  EXPECT_EQ(slots[2].size_bytes, 4096u);
  for (const auto& slot : slots) memory.add(slot);
  EXPECT_TRUE(memory.find(at(2 * kGiB), kGiB));
  EXPECT_FALSE(memory.find(at(2 * kGiB - 1), 2)) << "across the border of two slots";
  EXPECT_TRUE(memory.plan({at(16 * kGiB), 2 * kGiB}).empty()) << "one slot is left";
  EXPECT_EQ(memory.take(large).size(), 3u);
  EXPECT_EQ(memory.plan({at(16 * kGiB), 4 * kGiB}).size(), 4u);
}

}  // namespace
}  // namespace spillway::aio
