// Transfers of tiles that the program does not wait for: their bytes, and all that is refused.
#include <thread>

#include "c_transfer_fixture.h"

namespace spillway {
namespace {

class CTransfers : public CTransferFixture<CFixture> {};
INSTANTIATE_TEST_SUITE_P(Backends, CTransfers,
                         ::testing::Values(SPILLWAY_BACKEND_IO_URING, SPILLWAY_BACKEND_THREADS),
                         backend_name);

TEST_P(CTransfers, MoveManyTilesAtOnce) {
  spillway_lease* leases[4] = {lease(), lease(), lease(), lease()};
  spillway_request* requests[4] = {};
  for (std::uint32_t tile = 0; tile < 4; ++tile) {
    fill(leases[tile], tile + 1);
    start(&spillway_store_start_write, io_of_tile(tile, leases[tile]), &requests[tile]);
  }
  std::size_t moved = 0;
  for (spillway_request* request : requests) {
    ASSERT_OK(spillway_wait(request, -1, &moved));
    EXPECT_EQ(moved, kTileBytes);
  }
  // Each comes back in another lease.
  for (std::uint32_t tile = 0; tile < 4; ++tile) {
    auto io = io_of_tile(tile, leases[3 - tile]);
    io.urgent = tile % 2;
    start(&spillway_store_start_read, io, &requests[tile]);
  }
  for (std::uint32_t tile = 0; tile < 4; ++tile) {
    ASSERT_OK(spillway_wait(requests[tile], 60'000, &moved));
    EXPECT_EQ(moved, kTileBytes);
    expect_planes(leases[3 - tile], tile + 1, 0, 3);
  }
  for (spillway_lease* one : leases) EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(one));
}

TEST_P(CTransfers, MoveSomePlanesOnly) {
  spillway_lease* memory = lease();
  write_tile(2, memory, 1);
  // The middle plane of other bytes, then the last two of others again.
  fill_planes(memory, 7, 1, 1);
  std::size_t moved = 0;
  spillway_request* request = nullptr;
  start(&spillway_store_start_write, io_of_tile(2, memory, 1, 1), &request);
  ASSERT_OK(spillway_wait(request, -1, &moved));
  EXPECT_EQ(moved, kPlaneBytes);
  start(&spillway_store_start_read, io_of_tile(2, memory, 0, 0), &request);
  ASSERT_OK(spillway_wait(request, -1, nullptr));
  expect_planes(memory, 1, 0, 1);
  expect_planes(memory, 7, 1, 1);
  expect_planes(memory, 1, 2, 1);
  // `plane_count` 0 is all from the first on; they start at the start of the lease.
  start(&spillway_store_start_read, io_of_tile(2, memory, 1, 0), &request);
  ASSERT_OK(spillway_wait(request, -1, &moved));
  EXPECT_EQ(moved, 2 * kPlaneBytes);
  EXPECT_EQ(memory_of(memory)[0], byte_of(7, 1, 0));
  std::size_t first = 0, second = 0;
  ASSERT_OK(spillway_store_plane_offset(store_, 2, 1, &first));
  ASSERT_OK(spillway_store_plane_offset(store_, 2, 2, &second));
  EXPECT_EQ(memory_of(memory)[second - first + 5], byte_of(1, 2, 5));
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
}

TEST_P(CTransfers, APlaneIsInOneTransferAtATime) {
  spillway_lease* memory = lease();
  spillway_lease* other = lease();
  write_tile(1, memory, 4);
  spillway_request* request = nullptr;
  start(&spillway_store_start_read, io_of_tile(1, memory, 1, 2), &request);
  // Until it was waited for: its checksums are compared only then.
  spillway_request* second = nullptr;
  for (const auto& [first, count] : {std::pair{0u, 2u}, {0u, 0u}, {1u, 1u}, {2u, 1u}}) {
    const auto io = io_of_tile(1, other, first, count);
    EXPECT_STATUS(SPILLWAY_IN_USE, spillway_store_start_write(store_, &io, &second)) << first;
    EXPECT_EQ(second, nullptr);
  }
  EXPECT_NE(last_detail().find("another transfer of tile 1"), std::string::npos) << last_detail();
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_store_read(store_, 1, other));
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_store_write(store_, 1, other));
  fill(other, 9);
  start(&spillway_store_start_write, io_of_tile(1, other, 0, 1), &second);  // the plane beside
  ASSERT_OK(spillway_wait(second, -1, nullptr));
  ASSERT_OK(spillway_wait(request, -1, nullptr));
  ASSERT_OK(spillway_store_read(store_, 1, other));
  expect_planes(other, 9, 0, 1);
  expect_planes(other, 4, 1, 2);
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(other));
}

TEST_P(CTransfers, ATileIsFreeAsSoonAsItsTransferWasWaitedFor) {
  spillway_lease* memory = lease();
  fill(memory, 1);
  for (int round = 0; round < 1000; ++round) {
    spillway_request* request = nullptr;
    const auto call = round % 2 == 0 ? &spillway_store_start_write : &spillway_store_start_read;
    start(call, io_of_tile(2, memory), &request);
    ASSERT_OK(spillway_wait(request, -1, nullptr));
  }
  expect_planes(memory, 1, 0, 3);
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
}

TEST_P(CTransfers, ParentsOutliveTheRequest) {
  spillway_lease* memory = lease();
  spillway_request* request = nullptr;
  fill(memory, 1);
  start(&spillway_store_start_write, io_of_tile(0, memory), &request);
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_store_destroy(store_));
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_lease_release(memory));
  void* address = nullptr;
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_lease_memory(memory, &address, nullptr));
  spillway_request* second = nullptr;
  const auto io = io_of_tile(1, memory);
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_store_start_write(store_, &io, &second));
  EXPECT_STATUS(SPILLWAY_OK, spillway_wait(request, -1, nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_wait(request, -1, nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_expedite(request));
  // The refused one left nothing behind.
  start(&spillway_store_start_write, io, &second);
  EXPECT_STATUS(SPILLWAY_OK, spillway_wait(second, -1, nullptr));
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
}

TEST_P(CTransfers, ThatMakeNoSense) {
  spillway_lease* memory = lease();
  spillway_request* request = nullptr;
  const auto refused = [&](spillway_tile_io io, const std::string& why) {
    for (auto call : {&spillway_store_start_read, &spillway_store_start_write}) {
      EXPECT_STATUS(SPILLWAY_MISUSE, call(store_, &io, &request));
      EXPECT_NE(last_detail().find(why), std::string::npos) << last_detail();
      EXPECT_EQ(request, nullptr);
    }
  };
  refused(io_of_tile(kTiles, memory), "does not exist");
  refused(io_of_tile(0, memory, 3), "exceed the 3");
  refused(io_of_tile(0, memory, 1, 3), "exceed the 3");
  refused(io_of_tile(0, memory, 1, UINT32_MAX), "exceed the 3");
  auto io = io_of_tile(0, memory);
  io.size = 0;
  refused(io, "`size` is 0");
  io = io_of_tile(0, memory);
  io.urgent = 1;
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_store_start_write(store_, &io, &request));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_store_start_read(store_, nullptr, &request));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_store_start_read(store_, &io, nullptr));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_store_start_read(nullptr, &io, &request));
  io.lease = nullptr;
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_store_start_read(store_, &io, &request));

  auto small = zeroed<spillway_pool_options>();
  small.buffer_bytes = kPlaneBytes;
  small.buffer_count = 1;
  spillway_pool* pool = nullptr;
  ASSERT_OK(spillway_pool_create(nullptr, &small, &pool));
  spillway_lease* one_plane = nullptr;
  ASSERT_OK(spillway_lease_acquire(pool, 0, &one_plane));
  refused(io_of_tile(0, one_plane), "do not fit into a lease of " + std::to_string(kPlaneBytes));
  start(&spillway_store_start_write, io_of_tile(0, one_plane, 2, 1), &request);
  EXPECT_STATUS(SPILLWAY_OK, spillway_wait(request, -1, nullptr));
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(one_plane));
  EXPECT_STATUS(SPILLWAY_OK, spillway_pool_destroy(pool));
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
}

TEST_P(CTransfers, AfterAFailureTheLeaseHasOtherMemory) {
  spillway_lease* memory = lease();
  fill(memory, 1);
  spillway_request* request = nullptr;
  start(&spillway_store_start_write, io_of_tile(5, memory, 0, 2), &request);
  EXPECT_STATUS(SPILLWAY_OK, spillway_wait(request, -1, nullptr));
  start(&spillway_store_start_read, io_of_tile(5, memory), &request);  // the third plane
  int done = 0;
  EXPECT_STATUS(SPILLWAY_OK, spillway_request_done(request, &done));
  EXPECT_EQ(done, 1);
  std::size_t moved = 9;
  EXPECT_STATUS(SPILLWAY_INVALID, spillway_wait(request, 0, &moved));
  EXPECT_EQ(moved, 0u);
  EXPECT_NE(last_detail().find("never written"), std::string::npos) << last_detail();
  write_tile(5, memory, 2);  // with what memory it has
  ASSERT_OK(spillway_store_read(store_, 5, memory));
  expect_planes(memory, 2, 0, 3);
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
}

TEST_P(CTransfers, ACancelledOneEndsAndLosesNoByte) {
  spillway_lease* memory = lease();
  write_tile(3, memory, 0);
  for (unsigned round = 1; round <= 20; ++round) {
    spillway_lease* moved = lease();
    fill(moved, round);
    spillway_request* request = nullptr;
    start(&spillway_store_start_write, io_of_tile(3, moved), &request);
    std::thread other([request] { spillway_cancel(request); });
    const spillway_status written = spillway_wait(request, -1, nullptr);
    other.join();  // on a handle that may be gone: a status, no more
    EXPECT_TRUE(written == SPILLWAY_OK || written == SPILLWAY_CANCELLED) << written;
    void* address = nullptr;
    EXPECT_STATUS(written == SPILLWAY_OK ? SPILLWAY_OK : SPILLWAY_IN_USE,
                  spillway_lease_memory(moved, &address, nullptr));
    EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(moved));
    // An abandoned write has the tile until it is done, and it is never half done.
    const auto io = io_of_tile(3, memory);
    spillway_status reads = SPILLWAY_IN_USE;
    while (reads == SPILLWAY_IN_USE) reads = spillway_store_start_read(store_, &io, &request);
    ASSERT_OK(reads);
    EXPECT_STATUS(SPILLWAY_OK, spillway_cancel(request));
    const spillway_status read = spillway_wait(request, -1, nullptr);
    EXPECT_TRUE(read == SPILLWAY_OK || read == SPILLWAY_CANCELLED) << read;
    if (read != SPILLWAY_OK) {
      ASSERT_OK(spillway_store_read(store_, 3, memory));
    }
    expect_planes(memory, round, 0, 3);
  }
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
}

}  // namespace
}  // namespace spillway
