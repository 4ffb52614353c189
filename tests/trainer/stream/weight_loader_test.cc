// Weights on their way into memory while the drive is busy with something else.
#include "trainer/stream/weight_loader.h"

#include <gtest/gtest.h>
#include <spillway/swapper/tile_store.h>
#include <spillway/trainer/failure.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/scratch.h"
#include "tests/trainer/support/host_memory.h"

namespace spillway::trainer::testing {
namespace {

constexpr std::uint32_t kBlock = 4096;
constexpr std::uint64_t kTileElements = 4 * kBlock / sizeof(float);
constexpr std::size_t kTilesPerUnit = 3;
constexpr std::size_t kUnits = 2;
constexpr std::uint64_t kWrites = 400;

// A drive of one operation at a time that completes a write of a block only when it is let.
class HeldDrive {
 public:
  static void ended(void* context, const aio::EndedOperation& operation) noexcept {
    auto& drive = *static_cast<HeldDrive*>(context);
    MutexLock lock(drive.mutex_);
    if (operation.direction == aio::Direction::kRead) {
      drive.writes_before_last_read_ = drive.writes_;
      return;
    }
    ++drive.writes_;
    drive.changed_.notify_all();
    while (drive.held_) drive.changed_.wait(lock);
  }
  void hold() { set_held(true); }
  void release() { set_held(false); }
  void wait_until_it_writes() {
    MutexLock lock(mutex_);
    while (writes_ == 0) changed_.wait(lock);
  }
  std::uint64_t writes_before_last_read() {
    const MutexLock lock(mutex_);
    return writes_before_last_read_;
  }

 private:
  void set_held(bool held) {
    const MutexLock lock(mutex_);
    held_ = held;
    if (held) writes_ = 0;
    changed_.notify_all();
  }

  Mutex mutex_;
  CondVar changed_;
  bool held_ SPILLWAY_GUARDED_BY(mutex_) = false;
  std::uint64_t writes_ SPILLWAY_GUARDED_BY(mutex_) = 0;
  std::uint64_t writes_before_last_read_ SPILLWAY_GUARDED_BY(mutex_) = 0;
};

// A store whose reads the test sees start and become urgent.
class WatchedTier final : public swapper::Tier {
 public:
  explicit WatchedTier(std::unique_ptr<swapper::TileStore> store) : store_(std::move(store)) {}

  const char* name() const noexcept override { return "watched"; }
  const swapper::Layout& layout() const noexcept override { return store_->layout(); }
  std::uint32_t tile_count() const noexcept override { return store_->tile_count(); }
  std::uint64_t tile_elements(swapper::TileId tile) const override {
    return store_->tile_elements(tile);
  }
  std::byte* resident(swapper::TileId, std::uint32_t) noexcept override { return nullptr; }
  swapper::Transfer read(swapper::TileId tile, swapper::PlaneRange planes, pinned_pool::Lease lease,
                         aio::Priority priority) override {
    auto read = store_->read(tile, planes, std::move(lease), priority);
    count(started_);
    if (priority == aio::Priority::kUrgent) count(urgent_);
    return swapper::Transfer(std::make_unique<WatchedRead>(*this, std::move(read)));
  }
  swapper::Transfer write(swapper::TileId tile, swapper::PlaneRange planes,
                          pinned_pool::Lease lease) override {
    return store_->write(tile, planes, std::move(lease));
  }
  swapper::TierStats stats() const noexcept override { return store_->stats(); }
  std::uint64_t memory_bytes() const noexcept override { return 0; }
  std::uint64_t storage_bytes() const noexcept override { return 0; }

  void wait_until_started(std::size_t reads) { wait_for(started_, reads); }
  void wait_until_urgent(std::size_t reads) { wait_for(urgent_, reads); }

 private:
  class WatchedRead final : public swapper::Transfer::Impl {
   public:
    WatchedRead(WatchedTier& tier, swapper::Transfer read) : tier_(tier), read_(std::move(read)) {}
    bool done() const noexcept override { return read_.done(); }
    void expedite() noexcept override {
      read_.expedite();
      if (!std::exchange(expedited_, true)) tier_.count(tier_.urgent_);
    }
    Result<pinned_pool::Lease> finish(std::chrono::steady_clock::time_point) override {
      return read_.wait();
    }

   private:
    WatchedTier& tier_;
    swapper::Transfer read_;
    bool expedited_ = false;
  };

  void count(std::atomic<std::size_t>& counter) noexcept {
    const MutexLock lock(mutex_);
    ++counter;
    changed_.notify_all();
  }
  void wait_for(const std::atomic<std::size_t>& counter, std::size_t reads) {
    MutexLock lock(mutex_);
    while (counter < reads) changed_.wait(lock);
  }

  const std::unique_ptr<swapper::TileStore> store_;
  Mutex mutex_;
  CondVar changed_;
  std::atomic<std::size_t> started_{0};
  std::atomic<std::size_t> urgent_{0};
};

class WeightLoaderTest : public ::testing::Test {
 protected:
  WeightLoaderTest() {
    for (swapper::TileId tile = 0; tile < kUnits * kTilesPerUnit; ++tile) {
      auto lease = pool_->acquire();
      std::fill_n(reinterpret_cast<float*>(lease.data()), kTileElements, value_of(tile));
      value_or_throw(tier_.write(tile, tier_.layout().all(), std::move(lease)).wait());
    }
    drive_.hold();
    auto lease = ballast_pool_->acquire();
    std::fill_n(lease.data(), lease.capacity(), std::byte{0});
    behind_ = ballast_->write(0, ballast_->layout().all(), std::move(lease));
    drive_.wait_until_it_writes();
  }
  ~WeightLoaderTest() override {
    drive_.release();
    if (behind_.valid()) static_cast<void>(behind_.wait());
  }

  static float value_of(swapper::TileId tile) { return static_cast<float>(tile) + 1; }
  // Each in a directory of its own.
  std::unique_ptr<swapper::TileStore> store(const std::string& name,
                                            const std::vector<std::uint64_t>& tiles,
                                            std::uint32_t bytes) {
    std::filesystem::create_directory(scratch_ / name);
    return value_or_throw(swapper::TileStore::create(*engine_, swapper::Layout({{"plane", bytes}}),
                                                     tiles, {.directories = {scratch_ / name}}));
  }
  std::unique_ptr<pinned_pool::Pool> pool(std::size_t bytes, std::size_t count) {
    return value_or_throw(pinned_pool::Pool::create(
        {.buffer_bytes = bytes, .buffer_count = count, .name = "test"}, engine_.get()));
  }
  UnitWeights weights() {
    return {&tier_, pool_.get(), {{&partition_, 0}, {&partition_, kTilesPerUnit}}};
  }
  HostUnit start_loading(UnitId unit) {
    HostUnit loading(partition_);
    loader_.load(unit, WeightLoader::Tiles::kAll, loading.incoming);
    return loading;
  }
  static void expect_weights(const HostUnit& loaded, UnitId unit) {
    for (std::size_t tile = 0; tile < kTilesPerUnit; ++tile) {
      const auto id = static_cast<swapper::TileId>(unit * kTilesPerUnit + tile);
      EXPECT_EQ(loaded.values->at(tile * kTileElements), value_of(id));
      EXPECT_EQ(loaded.values->at((tile + 1) * kTileElements - 1), value_of(id));
    }
  }

  const UnitPartition partition_{
      "unit",
      {{"weight", {kTilesPerUnit, kTileElements}, kTilesPerUnit* kTileElements}},
      1,
      0,
      kTileElements};
  const Scratch scratch_;
  HeldDrive drive_;
  const std::unique_ptr<aio::Engine> engine_ = value_or_throw(aio::Engine::create(
      {.block_size_bytes = kBlock, .queue_depth = 1, .observer = {&HeldDrive::ended, &drive_}}));
  const std::unique_ptr<pinned_pool::Pool> pool_ =
      pool(kTileElements * sizeof(float), kTilesPerUnit);
  const std::unique_ptr<pinned_pool::Pool> ballast_pool_ = pool(kWrites * kBlock, 1);
  WatchedTier tier_{
      store("weights", std::vector<std::uint64_t>(kUnits* kTilesPerUnit, kTileElements), 4)};
  const std::unique_ptr<swapper::TileStore> ballast_ = store("ballast", {kWrites * kBlock}, 1);
  BackgroundUpdate update_{{}, kUnits};
  WeightLoader loader_{weights(), update_};
  swapper::Transfer behind_;
};

TEST_F(WeightLoaderTest, AUnitThatIsWaitedForPassesTheWritesThatWait) {
  const HostUnit unit = start_loading(0);
  tier_.wait_until_started(kTilesPerUnit);
  std::thread waiting([&] { unit.incoming->wait(); });
  tier_.wait_until_urgent(kTilesPerUnit);
  drive_.release();
  waiting.join();
  // In their turn the reads would wait for half of the writes.
  EXPECT_LT(drive_.writes_before_last_read(), kWrites / 8);
  expect_weights(unit, 0);
}

TEST_F(WeightLoaderTest, AUnitThatNobodyWaitsForKeepsItsTurn) {
  const HostUnit unit = start_loading(0);
  tier_.wait_until_started(kTilesPerUnit);
  drive_.release();
  loader_.settle();
  EXPECT_GT(drive_.writes_before_last_read(), 0u);
  unit.incoming->wait();
  expect_weights(unit, 0);
}

TEST_F(WeightLoaderTest, AnAbandonedUnitHoldsNobodyUp) {
  const HostUnit unwanted = start_loading(0);
  tier_.wait_until_started(1);
  unwanted.incoming->abandon();
  drive_.release();
  loader_.settle();
  EXPECT_TRUE(behind_.wait());
  const HostUnit wanted = start_loading(1);
  loader_.settle(1);
  wanted.incoming->wait();
  expect_weights(wanted, 1);
}

}  // namespace
}  // namespace spillway::trainer::testing
