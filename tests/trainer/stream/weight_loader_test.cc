// Weights on their way into memory while the drive is busy with something else.
#include "trainer/stream/weight_loader.h"

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "tests/support/scratch.h"
#include "tests/trainer/support/own_model.h"

namespace spillway::trainer::testing {
namespace {

using std::chrono::milliseconds;

constexpr std::uint32_t kBlock = 4096;
constexpr int kWrites = 4000;

// A drive that takes a millisecond for each write of a block, one after the other.
struct SlowDrive {
  static void ended(void* context, const aio::EndedOperation& operation) noexcept {
    auto& drive = *static_cast<SlowDrive*>(context);
    if (operation.direction == aio::Direction::kRead) return;
    ++drive.writes;
    if (drive.slow) std::this_thread::sleep_for(milliseconds(1));
  }
  std::atomic<bool> slow{false};
  std::atomic<int> writes{0};
};

class WeightLoaderTest : public ::testing::Test {
 protected:
  WeightLoaderTest() {
    auto& ballast = states_.tiers().add_store("ballast", swapper::Layout({{"bytes", 1}}),
                                              {kWrites * kBlock}, scratch_.path());
    auto& pool = states_.tiers().add_pool("ballast", kWrites * kBlock, 1);
    auto lease = pool.acquire();
    std::memset(lease.data(), 0, lease.capacity());
    drive_.slow = true;
    drive_.writes = 0;
    behind_ = ballast.write(0, ballast.layout().all(), std::move(lease));
    while (drive_.writes == 0) std::this_thread::sleep_for(milliseconds(1));
  }
  ~WeightLoaderTest() override {
    drive_.slow = false;
    if (behind_.valid()) static_cast<void>(behind_.wait());
  }

  Config config() {
    Config config;
    config.train_batch_size = config.micro_batch_size = 1;
    config.offload_param.device = config.offload_optimizer.device = OffloadDevice::kNvme;
    config.offload_param.nvme_path = config.offload_optimizer.nvme_path = scratch_.path();
    config.offload_param.max_in_cpu_elements = config.offload_optimizer.max_in_cpu_elements = 0;
    config.aio.queue_depth = 1;
    config.aio.block_size_bytes = kBlock;
    config.aio.observer = {&SlowDrive::ended, &drive_};
    return config;
  }
  std::shared_ptr<IncomingUnit> start_loading(UnitId unit) {
    pinned_pool::Pool& pool = *states_.tiers().weight_pool();
    const UnitPartition& partition = states_.units()[unit].partition;
    const at::Tensor flat =
        at::zeros({static_cast<std::int64_t>(partition.full_elements())}, states_.weight_type());
    auto incoming = std::make_shared<IncomingUnit>(partition, flat, flat);
    loader_.load(unit, WeightLoader::Tiles::kAll, incoming);
    if (!drive_.slow) return incoming;
    while (pool.available() == pool.buffer_count()) std::this_thread::sleep_for(milliseconds(1));
    std::this_thread::sleep_for(milliseconds(10));  // its reads wait behind the writes
    return incoming;
  }

  const Scratch scratch_;
  SlowDrive drive_;
  const std::unique_ptr<Communicator> ranks_ = Communicator::from_environment(at::kCPU);
  ModelStates states_{config(), own_model(), *ranks_, at::kCPU};
  BackgroundUpdate update_{{}, states_.units().size()};
  WeightLoader loader_{states_, update_};
  swapper::Transfer behind_;
};

TEST_F(WeightLoaderTest, WhatSomebodyStartsToWaitForPassesTheWritesThatWait) {
  const auto incoming = start_loading(kResidual);
  const int before = drive_.writes;
  incoming->wait();
  // In its turn it would wait for half of them.
  EXPECT_LT(drive_.writes - before, kWrites / 8);
  EXPECT_LT(drive_.writes, kWrites);
  drive_.slow = false;
  const auto again = start_loading(kResidual);
  again->wait();
  EXPECT_TRUE(again->flat().equal(incoming->flat()));
  EXPECT_GT(again->flat().abs().sum().item<double>(), 0);
}

TEST_F(WeightLoaderTest, WhatIsNotWantedAnyMoreHoldsNobodyUp) {
  const auto unwanted = start_loading(kResidual);
  unwanted->abandon();
  drive_.slow = false;
  loader_.settle();
  EXPECT_TRUE(behind_.wait());
  const auto wanted = start_loading(kGate);
  wanted->wait();
  EXPECT_GT(wanted->flat().abs().sum().item<double>(), 0);
}

}  // namespace
}  // namespace spillway::trainer::testing
