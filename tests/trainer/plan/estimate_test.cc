#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/trainer/estimate.h>
#include "trainer/models/gpt2/family.h"

namespace spillway::trainer {
namespace {

Config config_with(OffloadDevice parameters, OffloadDevice optimizer, Dtype dtype = Dtype::kBf16) {
  Config config;
  config.dtype = dtype;
  config.micro_batch_size = 2;
  config.gradient_accumulation_steps = 3;
  config.train_batch_size = 6;
  config.offload_param.device = parameters;
  config.offload_optimizer.device = optimizer;
  return config;
}

ModelShape gpt_lite() { return gpt_shape(*named_gpt("gpt-lite")); }

EstimateInput input_with(OffloadDevice parameters, OffloadDevice optimizer) {
  EstimateInput input;
  input.model = gpt_lite();
  input.config = config_with(parameters, optimizer);
  return input;
}

TierBytes row(const Estimate& estimate, const std::string& what) {
  for (const MemoryRow& one : estimate.rows) {
    if (one.what == what) return one.bytes;
  }
  ADD_FAILURE() << "no row " << what;
  return {};
}

constexpr OffloadDevice kDevices[] = {OffloadDevice::kNone, OffloadDevice::kCpu,
                                      OffloadDevice::kNvme};

TEST(EstimateTest, BytesPerParameterOfTheNinePairs) {
  for (const OffloadDevice parameters : kDevices) {
    for (const OffloadDevice optimizer : kDevices) {
      Config config = config_with(parameters, optimizer);
      const bool p = parameters == OffloadDevice::kNvme;
      const bool o = optimizer == OffloadDevice::kNvme;
      EXPECT_EQ(traffic_per_parameter(config).forward_read, p && o ? 2 : 0) << "during backward";
      config.update_order = UpdateOrder::kForward;
      EXPECT_EQ(traffic_per_parameter(config).forward_read, 0) << "the update has read it";
      config.update_order = UpdateOrder::kAfterBackward;
      const StepTraffic traffic = traffic_per_parameter(config);
      EXPECT_EQ(traffic.forward_read, p ? 2 : 0);
      EXPECT_EQ(traffic.backward_read, p ? 2 : 0);
      EXPECT_EQ(traffic.update_read, (p ? 2 : 0) + (o ? 10 : 0));
      EXPECT_EQ(traffic.update_written, traffic.update_read);
    }
  }
  Config config = config_with(OffloadDevice::kNvme, OffloadDevice::kNvme, Dtype::kFp32);
  EXPECT_EQ(traffic_per_parameter(config).read(), 20);
  config.update_order = UpdateOrder::kForward;
  const StepTraffic fp32 = traffic_per_parameter(config);
  EXPECT_EQ(fp32.update_read, 12);
  EXPECT_EQ(fp32.read(), 16);
  EXPECT_EQ(fp32.written(), 12);
}

TEST(EstimateTest, TrafficIsTheTheoryAndUnderTwoPercentOfPadding) {
  for (const OffloadDevice parameters : kDevices) {
    for (const OffloadDevice optimizer : kDevices) {
      EstimateInput input = input_with(parameters, optimizer);
      input.config.update_order = UpdateOrder::kForward;
      EXPECT_EQ(estimate(input).traffic.forward_read, 0) << "the update has read it";
      input.config.update_order = UpdateOrder::kAfterBackward;
      const Estimate result = estimate(input);
      const double n = static_cast<double>(result.parameters);
      const StepTraffic theory = traffic_per_parameter(input.config);
      EXPECT_GE(result.traffic.update_written, n * theory.update_written);
      EXPECT_LE(result.traffic.update_written, n * theory.update_written * 1.02);
      EXPECT_EQ(result.traffic.update_read, result.traffic.update_written);
      EXPECT_LE(result.traffic.forward_read, n * theory.forward_read * 1.02);
      EXPECT_GE(result.traffic.forward_read, n * theory.forward_read);
      // The head's weights are still there when its backward begins.
      EXPECT_LE(result.traffic.backward_read, result.traffic.forward_read);
    }
  }
}

TEST(EstimateTest, AccumulationChangesActivationsOnly) {
  EstimateInput input = input_with(OffloadDevice::kNvme, OffloadDevice::kNvme);
  const Estimate three = estimate(input);
  input.config.gradient_accumulation_steps = 6;
  input.config.train_batch_size = 12;
  const Estimate six = estimate(input);
  EXPECT_EQ(six.traffic.read(), three.traffic.read());
  EXPECT_EQ(six.traffic.written(), three.traffic.written());
  EXPECT_EQ(row(six, "activations").ram, 2 * row(three, "activations").ram);
  EXPECT_EQ(row(six, "gradients").ram + row(six, "gradients").pinned,
            row(three, "gradients").ram + row(three, "gradients").pinned);
}

TEST(EstimateTest, ActivationsAreTheUnitsInputsOfTheWholeBatch) {
  const Estimate result = estimate(input_with(OffloadDevice::kNvme, OffloadDevice::kNvme));
  EXPECT_EQ(row(result, "activations").ram, 2u * 3u * 2048u * 768u * 2u * (13u + 2u));
}

TEST(EstimateTest, StatesLieWhereTheConfigurationPutsThem) {
  const double n = static_cast<double>(parameter_count(gpt_lite()));
  const auto near = [&](std::uint64_t bytes, double per_parameter) {
    return bytes >= per_parameter * n && bytes <= per_parameter * n * 1.02;
  };
  EstimateInput input = input_with(OffloadDevice::kNvme, OffloadDevice::kCpu);
  Estimate result = estimate(input);
  EXPECT_TRUE(near(row(result, "parameters").nvme, 2));
  EXPECT_EQ(row(result, "parameters").pinned, 0u);
  EXPECT_TRUE(near(row(result, "moments").pinned, 10));
  EXPECT_TRUE(near(row(result, "gradients").pinned, 4));
  EXPECT_EQ(result.total.device, 0u) << "without a GPU there is no device memory";

  input = input_with(OffloadDevice::kNone, OffloadDevice::kNone);
  result = estimate(input);
  EXPECT_TRUE(near(row(result, "parameters").ram, 2));
  EXPECT_EQ(result.total.pinned, 0u);
  EXPECT_EQ(result.total.nvme, 0u);
  input.on_gpu = true;
  result = estimate(input);
  EXPECT_TRUE(near(row(result, "parameters").device, 2));
  EXPECT_TRUE(near(row(result, "moments").device, 10));
  EXPECT_TRUE(near(row(result, "gradients").device, 4));
}

TEST(EstimateTest, CachedElementsLeaveTheTraffic) {
  EstimateInput input = input_with(OffloadDevice::kNvme, OffloadDevice::kNvme);
  input.config.update_order = UpdateOrder::kForward;  // one generation
  const Estimate none = estimate(input);
  input.config.offload_optimizer.max_in_cpu_elements = none.rank_elements / 2;
  const Estimate half = estimate(input);
  EXPECT_EQ(half.traffic.forward_read, none.traffic.forward_read);
  const double moments = static_cast<double>(row(none, "moments").nvme);
  EXPECT_NEAR(none.traffic.written() - half.traffic.written(), moments / 2, moments * 0.02);
  EXPECT_EQ(row(half, "moments").nvme + row(half, "moments").pinned, row(none, "moments").nvme);
  input.config.offload_param.max_in_cpu_elements = none.rank_elements;
  input.config.offload_optimizer.max_in_cpu_elements = none.rank_elements;
  EXPECT_EQ(estimate(input).traffic.read(), 0.0);
  EXPECT_EQ(estimate(input).total.nvme, 0u);
}

TEST(EstimateTest, BuffersFollowTheTilesAndNotTheModel) {
  EstimateInput input = input_with(OffloadDevice::kNvme, OffloadDevice::kNvme);
  const std::uint64_t tile = std::uint64_t{1} << 20;
  // A block of 7.1 M elements has 7 tiles; two units of them are read ahead. The update has 4 tiles
  // of 10 blocks in the queue of 32, and 3 more.
  EXPECT_EQ(row(estimate(input), "buffers").pinned, (14 + 7) * 2 * tile + 7 * 10 * tile);
  input.config.offload_param.pin_memory = false;
  EXPECT_EQ(row(estimate(input), "buffers").ram, (14 + 7) * 2 * tile);
  input.config = config_with(OffloadDevice::kCpu, OffloadDevice::kCpu);
  EXPECT_EQ(row(estimate(input), "buffers").pinned, 0u);
}

TEST(EstimateTest, SpilledGradientsMoveOnceEachWay) {
  EstimateInput input = input_with(OffloadDevice::kNone, OffloadDevice::kCpu);
  const Estimate in_ram = estimate(input);
  const double n = static_cast<double>(in_ram.rank_elements);
  for (const auto& [dtype, width] : {std::pair(Dtype::kFp32, 4), std::pair(Dtype::kBf16, 2)}) {
    input.config.gradients.dtype = dtype;
    input.config.gradients.device = OffloadDevice::kNvme;
    const Estimate spilled = estimate(input);
    EXPECT_NEAR(spilled.traffic.backward_written, width * n, 0.01 * n);
    EXPECT_EQ(spilled.traffic.update_read, spilled.traffic.backward_written);
    EXPECT_EQ(spilled.traffic.written(), spilled.traffic.backward_written);
    EXPECT_EQ(row(spilled, "gradients").nvme, width * in_ram.rank_elements);
    EXPECT_LT(row(spilled, "gradients").ram + row(spilled, "gradients").pinned,
              row(in_ram, "gradients").pinned / 4);
  }
}

TEST(EstimateTest, GradientsGoToNvmeWhenRamCannotHoldThem) {
  EstimateInput input = input_with(OffloadDevice::kNone, OffloadDevice::kNvme);
  input.config.gradients.nvme_path = "/somewhere";
  EXPECT_EQ(estimate(input).traffic.backward_written, 0);
  input.ram_bytes = std::uint64_t{600} << 20;
  EXPECT_GT(estimate(input).traffic.backward_written, 0);
  input.on_gpu = true;
  input.config.offload_optimizer.device = OffloadDevice::kNone;
  EXPECT_EQ(estimate(input).traffic.backward_written, 0) << "they are on the device";
}

TEST(EstimateTest, ActivationsWaitWhereTheConfigurationPutsThem) {
  EstimateInput input = input_with(OffloadDevice::kCpu, OffloadDevice::kCpu);
  const std::uint64_t one = 2u * 3u * 2048u * 768u * 2u;  // of one unit's input
  EXPECT_EQ(row(estimate(input), "activations").ram, (13 + 2) * one);
  input.config.activations.device = OffloadDevice::kCpu;
  EXPECT_EQ(row(estimate(input), "activations").ram, (1 + 2) * one);
  EXPECT_EQ(row(estimate(input), "activations").pinned, 12 * one);
  EXPECT_EQ(estimate(input).traffic.read(), 0);
  input.config.activations.device = OffloadDevice::kNvme;
  EXPECT_EQ(row(estimate(input), "activations").nvme, 12 * one);
  EXPECT_EQ(estimate(input).traffic.forward_written, 12.0 * one);
  EXPECT_EQ(estimate(input).traffic.backward_read, 12.0 * one);
  input.config.activations = ActivationConfig();
  input.config.activations.checkpointing = false;
  EXPECT_GT(row(estimate(input), "activations").ram, 13 * 17 * one) << "34 s b h a block";
  EXPECT_EQ(estimate(input).flops_per_step * 8,
            6 * estimate(input_with(OffloadDevice::kCpu, OffloadDevice::kCpu)).flops_per_step);
}

TEST(EstimateTest, TheUnitAheadTakesAsMuchAsTheLargest) {
  const auto held = [](OffloadDevice parameters) {
    return row(estimate(input_with(parameters, OffloadDevice::kCpu)), "weights in use").ram;
  };
  EXPECT_EQ(held(OffloadDevice::kNvme), 2 * held(OffloadDevice::kCpu));
}

TEST(EstimateTest, RanksShareTheStates) {
  EstimateInput input = input_with(OffloadDevice::kNvme, OffloadDevice::kNvme);
  const Estimate one = estimate(input);
  input.world_size = 4;
  input.config.train_batch_size *= 4;
  const Estimate four = estimate(input);
  EXPECT_NEAR(static_cast<double>(four.total.nvme), static_cast<double>(one.total.nvme) / 4,
              0.01 * static_cast<double>(one.total.nvme));
  EXPECT_EQ(four.tokens_per_step, 4 * one.tokens_per_step);
  EXPECT_EQ(row(four, "activations").ram, row(one, "activations").ram);
}

TEST(EstimateTest, ATiedHeadReadsTheEmbeddingAgain) {
  EstimateInput input = input_with(OffloadDevice::kNvme, OffloadDevice::kNone);
  GptConfig model = *named_gpt("gpt-lite");
  model.tie_word_embeddings = true;
  input.model = gpt_shape(model);
  const Estimate tied = estimate(input);
  const double embedding = (256.0 + 2048.0) * 768 * 2;
  EXPECT_EQ(tied.traffic.forward_read, embedding);
}

TEST(EstimateTest, SmallTilesCostPadding) {
  EstimateInput input = input_with(OffloadDevice::kNvme, OffloadDevice::kNvme);
  const Estimate large = estimate(input);
  input.config.sub_group_size = 1000;  // 2000 and 4000 bytes a plane, each in 4096
  const Estimate small = estimate(input);
  const double elements = static_cast<double>(small.rank_elements);
  EXPECT_NEAR(small.traffic.written(), elements / 1000 * 4 * 4096, 0.001 * small.traffic.written());
  EXPECT_GT(small.traffic.written(), large.traffic.written());
}

}  // namespace
}  // namespace spillway::trainer
