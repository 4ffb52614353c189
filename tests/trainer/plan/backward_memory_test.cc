// What waiting activations and gradients take, and when gradients leave RAM.
#include "trainer/plan/backward_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spillway::trainer {
namespace {

using ::testing::HasSubstr;
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

TEST(BackwardMemoryTest, ActivationsAreHeldWhereTheyWait) {
  const ActivationSizes sizes{.bytes = std::vector<std::uint64_t>(10, 8 * kMiB),
                              .graph_bytes = 50 * kMiB};
  ActivationConfig config;
  EXPECT_EQ(activation_bytes(config, sizes).computing, 80 * kMiB);
  config.device = OffloadDevice::kCpu;
  EXPECT_EQ(activation_bytes(config, sizes).computing, 8 * kMiB);
  EXPECT_EQ(activation_bytes(config, sizes).ram, 72 * kMiB);
  config.device = OffloadDevice::kNvme;
  EXPECT_EQ(activation_bytes(config, sizes).nvme, 72 * kMiB);
  EXPECT_EQ(activation_bytes(config, sizes).ram, 0u);
  EXPECT_EQ(activation_bytes(config, sizes).buffers, 8 * 2 * kMiB) << "twice four tiles";
  config.checkpointing = false;
  EXPECT_EQ(activation_bytes(config, sizes).computing, 580 * kMiB);
  EXPECT_EQ(flops_per_parameter_and_token(config), 6);
}

TEST(BackwardMemoryTest, ActivationsOfSeveralSizesWaitEachInItsOwnPages) {
  const ActivationSizes sizes{.bytes = {kMiB, 5000, 100, 3 * kMiB}, .graph_bytes = kMiB};
  ActivationConfig config;
  EXPECT_EQ(activation_bytes(config, sizes).computing, 4 * kMiB + 5100);
  config.device = OffloadDevice::kNvme;
  EXPECT_EQ(activation_bytes(config, sizes).nvme, kMiB + 3 * 4096) << "the last one stays";
  EXPECT_EQ(activation_bytes(config, sizes).computing, 3 * kMiB);
  EXPECT_EQ(activation_bytes(config, {}).computing, 0u);
}

TEST(BackwardMemoryTest, BuffersForActivationsHaveBounds) {
  EXPECT_EQ(activation_buffers(1), kMinActivationBuffers);
  EXPECT_EQ(activation_buffers(kActivationTileBytes * 3), 6u);
  EXPECT_EQ(activation_buffers(std::uint64_t{1} << 40), kMaxActivationBuffers);
}

constexpr GradientSizes kSizes{.elements = 100 * kMiB,  // 400 MiB in fp32
                               .largest_unit = 10 * kMiB,
                               .largest_tile = kMiB,
                               .weights_bytes = 20 * kMiB};

TEST(BackwardMemoryTest, GradientsLeaveRamWhenTheyDoNotFit) {
  GradientConfig config;
  config.nvme_path = "/swap";
  // 400 + 80 + 20 MiB are three quarters of 666.7 MiB.
  EXPECT_EQ(plan_gradients(config, kSizes, 667 * kMiB).device, OffloadDevice::kCpu);
  const GradientPlan nvme = plan_gradients(config, kSizes, 666 * kMiB);
  EXPECT_EQ(nvme.device, OffloadDevice::kNvme);
  EXPECT_EQ(nvme.bytes.nvme, 400 * kMiB);
  EXPECT_EQ(nvme.bytes.buffers, 8 * 4 * kMiB);
  EXPECT_EQ(nvme.bytes.ram, 0u);
  EXPECT_THAT(nvme.reason, HasSubstr("400.0 MiB with 100.0 MiB for the largest unit do not fit"));
  config.dtype = Dtype::kBf16;
  EXPECT_EQ(plan_gradients(config, kSizes, 666 * kMiB).device, OffloadDevice::kCpu);
}

TEST(BackwardMemoryTest, WhatIsAskedForIsDone) {
  GradientConfig config;
  EXPECT_EQ(plan_gradients(config, kSizes, 0).device, OffloadDevice::kCpu);
  EXPECT_THAT(plan_gradients(config, kSizes, 0).reason, HasSubstr("no nvme_path"));
  config.nvme_path = "/swap";
  config.device = OffloadDevice::kCpu;
  EXPECT_EQ(plan_gradients(config, kSizes, 0).device, OffloadDevice::kCpu);
  config.device = OffloadDevice::kNvme;
  EXPECT_EQ(plan_gradients(config, kSizes, std::uint64_t{1} << 40).device, OffloadDevice::kNvme);
  EXPECT_EQ(plan_gradients(config, kSizes, std::uint64_t{1} << 40).reason, "as configured");
}

}  // namespace
}  // namespace spillway::trainer
