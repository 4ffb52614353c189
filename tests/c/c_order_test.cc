// Which request goes first, which one is done first, and what ends without the device: on engines
// whose device a test holds back.
#include <future>
#include <thread>

#include "c/request.h"
#include "c_engine_on.h"
#include "c_transfer_fixture.h"
#include "support/gated_backend.h"
#include "support/simulator.h"

namespace spillway {
namespace {

using namespace std::chrono_literals;

// An engine with one operation in flight, which completes none until the gate opens.
class HeldBase : public ::testing::Test {
 protected:
  static constexpr std::size_t kBuffer = 64 << 10;

  void SetUp() override {
    engine_ = engine_on(std::make_unique<aio::GatedFactory>(gate_), {.queue_depth = 1});
    auto pool = zeroed<spillway_pool_options>();
    pool.buffer_bytes = kBuffer;
    pool.buffer_count = 8;
    ASSERT_OK(spillway_pool_create(nullptr, &pool, &pool_));
  }
  void TearDown() override {
    EXPECT_STATUS(SPILLWAY_OK, spillway_pool_destroy(pool_));
    EXPECT_STATUS(SPILLWAY_OK, spillway_engine_destroy(engine_));
  }
  spillway_lease* lease() {
    spillway_lease* lease = nullptr;
    EXPECT_STATUS(SPILLWAY_OK, spillway_lease_acquire(pool_, 0, &lease));
    return lease;
  }
  static unsigned char* memory_of(spillway_lease* lease) {
    void* memory = nullptr;
    EXPECT_STATUS(SPILLWAY_OK, spillway_lease_memory(lease, &memory, nullptr));
    return static_cast<unsigned char*>(memory);
  }

  Scratch scratch_;
  const std::shared_ptr<aio::Gate> gate_ = std::make_shared<aio::Gate>();
  spillway_engine* engine_ = nullptr;
  spillway_pool* pool_ = nullptr;
};

class CHeld : public CTransferFixture<HeldBase> {
 protected:
  static constexpr std::uint32_t kAll = 1'000'000;

  // Writes all tiles, and returns the offset of each.
  std::vector<std::uint64_t> write_all() {
    gate_->open = kAll;
    spillway_lease* memory = lease();
    for (std::uint32_t tile = 0; tile < kTiles; ++tile) write_tile(tile, memory, tile);
    EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
    gate_->open = 0;
    std::lock_guard lock(gate_->mutex);
    EXPECT_EQ(gate_->offsets.size(), kTiles);
    return std::exchange(gate_->offsets, {});
  }
  // Starts to read tiles 0 to 3; the device has the first one.
  void start_reads() {
    for (std::uint32_t tile = 0; tile < 4; ++tile) {
      leases_.push_back(lease());
      start(&spillway_store_start_read, io_of_tile(tile, leases_[tile]),
            &requests_.emplace_back(nullptr));
      while (tile == 0 && gate_->count() == 0) std::this_thread::sleep_for(1ms);
    }
  }
  // The device moves no bytes, so what it reads is CORRUPT.
  std::vector<std::uint64_t> end_reads() {
    EXPECT_TRUE(gate_->settled());
    gate_->open = kAll;
    for (spillway_request* request : requests_) {
      EXPECT_STATUS(SPILLWAY_CORRUPT, spillway_wait(request, 60'000, nullptr));
    }
    for (spillway_lease* one : leases_) EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(one));
    std::lock_guard lock(gate_->mutex);
    return gate_->offsets;
  }

  // Returns when a thread sleeps in spillway_wait_any() for the request, or is about to.
  static void until_watched(spillway_request* request) {
    const auto object = c::find<c::RequestObject>(request, "watch");
    ASSERT_TRUE(object);
    const auto watched = [&] {
      const MutexLock lock((*object)->mutex);
      return !(*object)->watchers.empty();
    };
    while (!watched()) std::this_thread::yield();
  }

  std::vector<spillway_lease*> leases_;
  std::vector<spillway_request*> requests_;
};

// Neither while its transfer waits for the device, nor when nobody waits for the transfer any more.
TEST_F(CHeld, ATileInFlightIsNeitherFreedNorSaved) {
  write_all();
  const std::string saved = (scratch_ / "saved").string();
  spillway_lease* memory = lease();
  fill(memory, 9);
  spillway_request* request = nullptr;
  start(&spillway_store_start_write, io_of_tile(5, memory), &request);
  const auto refused = [&] {
    EXPECT_STATUS(SPILLWAY_IN_USE, spillway_store_free(store_, 5));
    EXPECT_STATUS(SPILLWAY_IN_USE, spillway_store_save(store_, saved.c_str(), nullptr));
  };
  refused();
  ASSERT_OK(spillway_cancel(request));
  EXPECT_STATUS(SPILLWAY_CANCELLED, spillway_wait(request, -1, nullptr));
  refused();
  EXPECT_STATUS(SPILLWAY_OK, spillway_store_free(store_, 4)) << "of another tile";
  gate_->open = kAll;
  spillway_status freed = SPILLWAY_IN_USE;
  while (freed == SPILLWAY_IN_USE) freed = spillway_store_free(store_, 5);
  EXPECT_EQ(freed, SPILLWAY_OK);
  EXPECT_STATUS(SPILLWAY_OK, spillway_store_save(store_, saved.c_str(), nullptr));
  std::filesystem::remove_all(saved);
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
}

TEST_F(CHeld, AnUrgentReadGoesFirst) {
  const auto at = write_all();
  start_reads();
  leases_.push_back(lease());
  auto io = io_of_tile(6, leases_.back());
  io.urgent = 1;
  start(&spillway_store_start_read, io, &requests_.emplace_back(nullptr));
  EXPECT_EQ(end_reads(), (std::vector{at[0], at[6], at[1], at[2], at[3]}));
}

TEST_F(CHeld, AnExpeditedReadGoesFirst) {
  const auto at = write_all();
  start_reads();
  EXPECT_STATUS(SPILLWAY_OK, spillway_expedite(requests_[3]));
  EXPECT_EQ(end_reads(), (std::vector{at[0], at[3], at[1], at[2]}));
}

TEST_F(CHeld, AnExpeditedReadOfAFileGoesFirst) {
  auto options = zeroed<spillway_create_options>();
  options.size_bytes = 3 * kBuffer;
  spillway_file* file = nullptr;
  ASSERT_OK(spillway_file_create((scratch_ / "file").c_str(), &options, &file));
  spillway_request* requests[3] = {};
  std::vector<unsigned char> memory(kBuffer);
  for (std::size_t i = 0; i < 3; ++i) {
    auto io = zeroed<spillway_io>();
    io.file = file;
    io.offset = i * kBuffer;
    io.memory = memory.data();
    io.size_bytes = memory.size();
    ASSERT_OK(spillway_read(engine_, &io, &requests[i]));
    while (i == 0 && gate_->count() == 0) std::this_thread::sleep_for(1ms);
  }
  EXPECT_STATUS(SPILLWAY_OK, spillway_expedite(requests[2]));
  EXPECT_TRUE(gate_->settled());
  gate_->open = kAll;
  for (spillway_request* request : requests) ASSERT_OK(spillway_wait(request, -1, nullptr));
  std::lock_guard lock(gate_->mutex);
  EXPECT_EQ(gate_->offsets, (std::vector<std::uint64_t>{0, 2 * kBuffer, kBuffer}));
  EXPECT_STATUS(SPILLWAY_OK, spillway_file_close(file));
}

TEST_F(CHeld, ATimeoutKeepsTheHandle) {
  spillway_lease* memory = lease();
  fill(memory, 1);
  spillway_request* request = nullptr;
  start(&spillway_store_start_write, io_of_tile(0, memory), &request);
  int done = 1;
  EXPECT_STATUS(SPILLWAY_OK, spillway_request_done(request, &done));
  EXPECT_EQ(done, 0);
  EXPECT_STATUS(SPILLWAY_WAIT_TIMEOUT, spillway_wait(request, 0, nullptr));
  EXPECT_STATUS(SPILLWAY_WAIT_TIMEOUT, spillway_wait(request, 5, nullptr));
  gate_->open = kAll;
  std::size_t moved = 0;
  EXPECT_STATUS(SPILLWAY_OK, spillway_wait(request, -1, &moved));
  EXPECT_EQ(moved, kTileBytes);
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
}

TEST_F(CHeld, AnAbandonedWriteEndsAtOnceAndKeepsItsTile) {
  spillway_lease* memory = lease();
  fill(memory, 1);
  spillway_request* request = nullptr;
  start(&spillway_store_start_write, io_of_tile(0, memory), &request);
  EXPECT_STATUS(SPILLWAY_UNSUPPORTED, spillway_expedite(request));
  EXPECT_STATUS(SPILLWAY_OK, spillway_cancel(request));
  EXPECT_STATUS(SPILLWAY_OK, spillway_cancel(request));
  EXPECT_STATUS(SPILLWAY_CANCELLED, spillway_wait(request, -1, nullptr));
  EXPECT_NE(last_detail().find("tile 0 was abandoned"), std::string::npos) << last_detail();
  // The device may still read that memory.
  void* address = nullptr;
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_lease_memory(memory, &address, nullptr));
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
  std::size_t free = 0;
  EXPECT_STATUS(SPILLWAY_OK, spillway_pool_available(pool_, &free));
  EXPECT_EQ(free, 7u);
  memory = lease();
  fill(memory, 2);
  const auto io = io_of_tile(0, memory);
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_store_start_write(store_, &io, &request));
  EXPECT_STATUS(SPILLWAY_IN_USE, spillway_store_free(store_, 0));
  EXPECT_STATUS(SPILLWAY_IN_USE,
                spillway_store_save(store_, (scratch_ / "saved").c_str(), nullptr));
  gate_->open = kAll;
  spillway_status again = SPILLWAY_IN_USE;
  const auto late = std::chrono::steady_clock::now() + 60s;
  while (again == SPILLWAY_IN_USE && std::chrono::steady_clock::now() < late) {
    again = spillway_store_start_write(store_, &io, &request);
  }
  EXPECT_STATUS(SPILLWAY_OK, again);
  EXPECT_STATUS(SPILLWAY_OK, spillway_wait(request, -1, nullptr));
  EXPECT_STATUS(SPILLWAY_OK, spillway_pool_available(pool_, &free));
  EXPECT_EQ(free, 7u) << "the first buffer came back";
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
}

TEST_F(CHeld, AStoreGoesWhileAnAbandonedWriteIsInFlight) {
  spillway_lease* memory = lease();
  fill(memory, 1);
  spillway_request* request = nullptr;
  start(&spillway_store_start_write, io_of_tile(0, memory), &request);
  EXPECT_STATUS(SPILLWAY_OK, spillway_cancel(request));
  EXPECT_STATUS(SPILLWAY_CANCELLED, spillway_wait(request, 0, nullptr));
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
  auto destroyed = std::async(std::launch::async, [&] { return spillway_store_destroy(store_); });
  gate_->open = kAll;
  EXPECT_EQ(destroyed.get(), SPILLWAY_OK);
  store_ = nullptr;
  // It waited for the device, so the memory is back.
  std::size_t free = 0;
  EXPECT_STATUS(SPILLWAY_OK, spillway_pool_available(pool_, &free));
  EXPECT_EQ(free, 8u);
}

TEST_F(CHeld, WaitAnyReturnsTheFirstThatIsDone) {
  spillway_request* requests[5] = {};  // 1 and 4 stay NULL
  spillway_lease* leases[3] = {lease(), lease(), lease()};
  const std::size_t places[] = {0, 2, 3};
  for (std::uint32_t i = 0; i < 3; ++i) {
    fill(leases[i], i);
    start(&spillway_store_start_write, io_of_tile(i, leases[i]), &requests[places[i]]);
  }
  std::size_t index = 9;
  EXPECT_STATUS(SPILLWAY_WAIT_TIMEOUT, spillway_wait_any(requests, 5, 0, &index));
  EXPECT_STATUS(SPILLWAY_WAIT_TIMEOUT, spillway_wait_any(requests, 5, 5, &index));
  for (const std::size_t place : places) {
    // It sleeps until the device is done, and consumes nothing.
    auto any = std::async(std::launch::async, [&] {
      std::size_t found = 9;
      EXPECT_STATUS(SPILLWAY_OK, spillway_wait_any(requests, 5, -1, &found));
      return found;
    });
    until_watched(requests[3]);
    gate_->open = 1;
    EXPECT_EQ(any.get(), place);
    EXPECT_STATUS(SPILLWAY_OK, spillway_wait_any(requests, 5, 0, &index));
    EXPECT_EQ(index, place);
    EXPECT_STATUS(SPILLWAY_OK, spillway_wait(requests[place], 0, nullptr));
    requests[place] = nullptr;
  }
  for (spillway_lease* one : leases) EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(one));
}

TEST_F(CHeld, ACancelWakesWaitAny) {
  spillway_lease* memory = lease();
  fill(memory, 1);
  spillway_request* request = nullptr;
  start(&spillway_store_start_write, io_of_tile(0, memory), &request);
  std::thread other([&] {
    until_watched(request);
    spillway_cancel(request);
  });
  std::size_t index = 9;
  EXPECT_STATUS(SPILLWAY_OK, spillway_wait_any(&request, 1, -1, &index));
  EXPECT_EQ(index, 0u);
  other.join();
  EXPECT_STATUS(SPILLWAY_CANCELLED, spillway_wait(request, 0, nullptr));
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
  gate_->open = kAll;
}

TEST_F(CHeld, WaitAnyForNothingIsRefused) {
  std::size_t index = 0;
  spillway_request* none[2] = {};
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_wait_any(none, 2, -1, &index));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_wait_any(none, 0, -1, &index));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_wait_any(nullptr, 2, -1, &index));
  EXPECT_STATUS(SPILLWAY_MISUSE, spillway_wait_any(none, 2, -1, nullptr));
  none[1] = reinterpret_cast<spillway_request*>(engine_);
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_wait_any(none, 2, -1, &index));
  EXPECT_STATUS(SPILLWAY_BAD_HANDLE, spillway_expedite(nullptr));
}

// A read that hangs in the device until it is cancelled.
class StalledBase : public HeldBase {
 protected:
  void SetUp() override {
    HeldBase::SetUp();
    EXPECT_STATUS(SPILLWAY_OK, spillway_engine_destroy(engine_));
    engine_ = engine_on(aio::simulator_backend(control_));
  }
  const std::shared_ptr<aio::SimulatorControl> control_ =
      std::make_shared<aio::SimulatorControl>(aio::SimulatorOptions{});
};
class CStalled : public CTransferFixture<StalledBase> {};

TEST_F(CStalled, ACancelledReadGivesItsBufferBack) {
  spillway_lease* memory = lease();
  write_tile(4, memory, 3);
  control_->plan({.kind = aio::FaultKind::kStall, .direction = aio::Direction::kRead});
  spillway_request* request = nullptr;
  start(&spillway_store_start_read, io_of_tile(4, memory), &request);
  EXPECT_STATUS(SPILLWAY_WAIT_TIMEOUT, spillway_wait(request, 10, nullptr));
  EXPECT_STATUS(SPILLWAY_OK, spillway_cancel(request));
  EXPECT_STATUS(SPILLWAY_CANCELLED, spillway_wait(request, 60'000, nullptr));
  ASSERT_OK(spillway_store_read(store_, 4, memory));
  expect_planes(memory, 3, 0, 3);
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
  std::size_t free = 0;
  EXPECT_STATUS(SPILLWAY_OK, spillway_pool_available(pool_, &free));
  EXPECT_EQ(free, 8u);
}

TEST_F(CStalled, AFailedWriteIsReportedByTheWait) {
  spillway_lease* memory = lease();
  fill(memory, 1);
  control_->plan({.kind = aio::FaultKind::kError, .direction = aio::Direction::kWrite});
  spillway_request* request = nullptr;
  start(&spillway_store_start_write, io_of_tile(4, memory), &request);
  EXPECT_STATUS(SPILLWAY_IO, spillway_wait(request, -1, nullptr));
  EXPECT_NE(last_detail().find("tile 4"), std::string::npos) << last_detail();
  write_tile(4, memory, 2);
  ASSERT_OK(spillway_store_read(store_, 4, memory));
  expect_planes(memory, 2, 0, 3);
  EXPECT_STATUS(SPILLWAY_OK, spillway_lease_release(memory));
}

}  // namespace
}  // namespace spillway
