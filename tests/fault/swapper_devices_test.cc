// Devices that are slow, unordered, silent or lie, seen from the tiles that lie on them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>

#include "swapper_fault_fixture.h"

namespace spillway::swapper {
namespace {

using aio::Direction;
using aio::Fault;
using aio::FaultKind;
using testing::HasSubstr;

constexpr FaultFixtureOptions kOnePieceATile{.block_size_bytes = 1 << 20};

// The read of the tile must say that it is damaged, and which plane of it.
void expect_corrupt(FaultFixture& fixture, TileId tile, std::uint32_t version) {
  const auto read = check_tile(fixture.store(), tile, fixture.all(), version);
  ASSERT_FALSE(read) << "tile " << tile << " passed";
  EXPECT_EQ(read.error().kind, ErrorKind::kCorrupt) << read.error().message();
  EXPECT_THAT(read.error().message(), HasSubstr(fixture.store().place(tile).path));
  EXPECT_THAT(read.error().message(), HasSubstr("tile " + std::to_string(tile) + ", plane "));
}

TEST(SwapperDevices, ShortTransfersGiveTheExactBytes) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    FaultFixture fixture(
        {.simulator = {.seed = seed, .short_chance = 0.4, .interrupt_chance = 0.1}});
    std::set<TileId> computed;
    EXPECT_TRUE(ok(fixture.write_all(100)));
    EXPECT_TRUE(ok(fixture.sweep(100, 200, computed)));
    EXPECT_TRUE(ok(fixture.check_all(200)));
  }
}

TEST(SwapperDevices, TransfersOfNothingAreAnErrorWithTheOffset) {
  FaultFixture fixture(kOnePieceATile);
  ASSERT_TRUE(ok(fixture.write_all(100)));
  fixture.control().plan(
      {.kind = FaultKind::kZero, .direction = Direction::kRead, .forever = true});
  const auto read = check_tile(fixture.store(), 1, fixture.all(), 101);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kShortTransfer);
  EXPECT_EQ(read.error().offset, fixture.store().place(1).offset);
  EXPECT_THAT(read.error().message(), HasSubstr("tile 1, plane param_lo"));
}

// All of the first plane has moved, and nothing of the second.
TEST(SwapperDevices, AFailureAtTheStartOfAPlaneNamesThatPlane) {
  FaultFixture probe(kOnePieceATile);
  const auto first = static_cast<std::uint32_t>(probe.layout().padded_plane_bytes(0, 12'000));
  FaultFixture fixture({.block_size_bytes = first});
  ASSERT_TRUE(ok(fixture.write_all(100)));
  fixture.control().plan({.kind = FaultKind::kError, .direction = Direction::kRead, .nth = 2});
  const auto read = check_tile(fixture.store(), 1, fixture.all(), 101);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().got, first);
  EXPECT_THAT(read.error().message(), HasSubstr("tile 1, plane exp_avg"));
}

TEST(SwapperDevices, AnyOrderOfCompletionsGivesTheSameBytes) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    FaultFixture fixture(
        {.simulator = {.seed = seed, .reorder = true, .max_delay_rounds = 3, .accept_at_most = 3},
         .block_size_bytes = 8 << 10,
         .tiles = 6});
    std::set<TileId> computed;
    EXPECT_TRUE(ok(fixture.write_all(100)));
    EXPECT_TRUE(ok(fixture.sweep(100, 200, computed)));
    EXPECT_TRUE(ok(fixture.check_all(200)));
  }
}

// Memory that counts how often it is given back, and is never freed: the device may write there.
pinned_pool::Lease watched_lease(int& given_back) {
  alignas(4096) static std::byte memory[1 << 20];
  const auto release = [](void* count, std::byte*, std::size_t) noexcept {
    ++*static_cast<int*>(count);
  };
  return pinned_pool::Lease(aio::Buffer(memory, sizeof memory, release, &given_back));
}

TEST(SwapperDevices, ATransferThatNeverEndsIsADeadlineAndItsMemoryIsNeverGivenBack) {
  for (const Direction direction : {Direction::kRead, Direction::kWrite}) {
    int given_back = 0;
    FaultFixture fixture(kOnePieceATile);
    ASSERT_TRUE(ok(fixture.write_all(100)));
    fixture.control().plan({.kind = FaultKind::kLoseCompletion, .direction = direction});
    const auto start = std::chrono::steady_clock::now();
    Transfer transfer = direction == Direction::kRead
                            ? fixture.store().read(1, fixture.all(), watched_lease(given_back))
                            : fixture.store().write(1, fixture.all(), watched_lease(given_back));
    EXPECT_FALSE(transfer.done());
    const auto waited = transfer.wait(std::chrono::seconds(1));
    ASSERT_FALSE(waited);
    EXPECT_EQ(waited.error().kind, ErrorKind::kDeadline);
    EXPECT_THAT(waited.error().message(), HasSubstr("tile 1, plane param_lo to exp_avg_sq"));
    EXPECT_THAT(waited.error().message(), HasSubstr(fixture.store().place(1).path));
    EXPECT_TRUE(ok(check_tile(fixture.store(), 0, fixture.all(), 100)));  // the others go on
    const std::filesystem::path file = fixture.store().place(1).path;
    fixture.drop_store();
    EXPECT_FALSE(std::filesystem::exists(file));
    fixture.drop_engine();
    EXPECT_EQ(given_back, 0);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  }
}

// A write that is merely abandoned is waited for: its memory is back when the store is gone.
TEST(SwapperDevices, DroppingTheStoreWaitsForAbandonedTransfers) {
  FaultFixture fixture({.simulator = {.seed = 3, .reorder = true, .max_delay_rounds = 4}});
  for (int round = 0; round < 4; ++round) {
    pinned_pool::Lease lease = fixture.pool().acquire();
    std::memset(lease.data(), round, lease.capacity());
    (void)fixture.store().write(0, fixture.all(), std::move(lease));
  }
  fixture.drop_store();
  EXPECT_EQ(fixture.pool().available(), FaultFixture::kBuffers);
}

TEST(SwapperDevices, ATornWriteIsFound) {
  FaultFixture fixture(kOnePieceATile);
  ASSERT_TRUE(ok(fixture.write_all(100)));
  for (const std::uint32_t keep : {512u, 4096u, 40'960u}) {
    fixture.control().plan(
        {.kind = FaultKind::kTear, .direction = Direction::kWrite, .keep_bytes = keep});
    ASSERT_TRUE(ok(write_tile(fixture.store(), 1, fixture.all(), 300 + keep)));
    expect_corrupt(fixture, 1, 300 + keep);
    EXPECT_TRUE(ok(check_tile(fixture.store(), 0, fixture.all(), 100)));
    EXPECT_TRUE(ok(check_tile(fixture.store(), 2, fixture.all(), 102)));
  }
  EXPECT_EQ(fixture.control().faults(), 3u);
}

TEST(SwapperDevices, ALostWriteIsFound) {
  FaultFixture fixture(kOnePieceATile);
  ASSERT_TRUE(ok(fixture.write_all(100)));
  fixture.control().plan({.kind = FaultKind::kLoseWrite, .direction = Direction::kWrite});
  ASSERT_TRUE(ok(write_tile(fixture.store(), 1, fixture.all(), 301)));
  expect_corrupt(fixture, 1, 301);
  // Lost again, but the bytes were the same before: those on the disk are the right ones.
  ASSERT_TRUE(ok(write_tile(fixture.store(), 2, fixture.all(), 302)));
  fixture.control().plan({.kind = FaultKind::kLoseWrite, .direction = Direction::kWrite});
  ASSERT_TRUE(ok(write_tile(fixture.store(), 2, fixture.all(), 302)));
  EXPECT_TRUE(ok(check_tile(fixture.store(), 2, fixture.all(), 302)));
}

TEST(SwapperDevices, AMisdirectedWriteIsFoundByBothVictims) {
  FaultFixture fixture(kOnePieceATile);
  ASSERT_TRUE(ok(fixture.write_all(100)));
  fixture.control().plan({.kind = FaultKind::kMisdirect,
                          .direction = Direction::kWrite,
                          .shift_bytes = std::int64_t(fixture.tile_stride())});
  ASSERT_TRUE(ok(write_tile(fixture.store(), 0, fixture.all(), 300)));
  expect_corrupt(fixture, 0, 300);  // still has its old bytes
  expect_corrupt(fixture, 1, 101);  // has tile 0's
  EXPECT_TRUE(ok(check_tile(fixture.store(), 2, fixture.all(), 102)));
}

TEST(SwapperDevices, AMisdirectedReadIsFound) {
  FaultFixture fixture(kOnePieceATile);
  ASSERT_TRUE(ok(fixture.write_all(100)));
  for (const std::int64_t shift : {std::int64_t(4096), std::int64_t(fixture.tile_stride())}) {
    fixture.control().plan(
        {.kind = FaultKind::kMisdirect, .direction = Direction::kRead, .shift_bytes = shift});
    expect_corrupt(fixture, 0, 100);
  }
  EXPECT_TRUE(ok(fixture.check_all(100)));
}

TEST(SwapperDevices, ABitFlippedOnItsWayIsFound) {
  FaultFixture fixture(kOnePieceATile);
  ASSERT_TRUE(ok(fixture.write_all(100)));
  for (TileId tile = 0; tile < 3; ++tile) {
    fixture.control().plan({.kind = FaultKind::kFlipBit, .direction = Direction::kRead});
    expect_corrupt(fixture, tile, 100 + tile);
  }
  EXPECT_TRUE(ok(fixture.check_all(100)));
}

}  // namespace
}  // namespace spillway::swapper
