#include "trainer/plan/step_time.h"
#include <gtest/gtest.h>
#include "trainer/models/gpt2/family.h"

#include <cmath>

namespace spillway::trainer {
namespace {

constexpr double kGB = 1e9;

EstimateInput input_with(OffloadDevice parameters, OffloadDevice optimizer) {
  EstimateInput input;
  input.model = (*load_model_config("gpt-lite"))->shape();
  input.config.dtype = Dtype::kBf16;
  input.config.micro_batch_size = 2;
  input.config.gradient_accumulation_steps = 3;
  input.config.train_batch_size = 6;
  input.config.offload_param.device = parameters;
  input.config.offload_optimizer.device = optimizer;
  input.config.update_order = UpdateOrder::kAfterBackward;
  return input;
}

// Computing, and all that the CPU does, take next to no time unless said otherwise.
MachineSpeeds fast() {
  return {.flops = 1e24,
          .read_bytes = 2 * kGB,
          .write_bytes = 1 * kGB,
          .mixed_bytes = 1.5 * kGB,
          .pcie_bytes = 0,
          .device_memory_bytes = 0,
          .update_bytes = 1e24,
          .hash_bytes = 1e24};
}

StepTime time_of(const EstimateInput& input, const MachineSpeeds& speeds) {
  return step_time(input, estimate(input), speeds);
}

TEST(StepTimeTest, TheDriveAloneTakesItsBytesByDirection) {
  const EstimateInput input = input_with(OffloadDevice::kNvme, OffloadDevice::kNvme);
  const StepTraffic traffic = estimate(input).traffic;
  const double forward = traffic.forward_read / (2 * kGB);
  const double backward = traffic.backward_read / (2 * kGB);
  const double update = 2 * traffic.update_read / (1.5 * kGB);
  const StepTime time = time_of(input, fast());
  EXPECT_NEAR(time.seconds, forward + backward + update, 1e-9);
  EXPECT_NEAR(time.bound_seconds, time.seconds, 1e-9) << "one resource cannot overlap with itself";
  EXPECT_EQ(time.limit, Resource::kStorage);
  EXPECT_TRUE(time.storage_known);
}

TEST(StepTimeTest, WithoutAMixedSpeedTheDriveDoesOneDirectionAtATime) {
  const EstimateInput input = input_with(OffloadDevice::kNone, OffloadDevice::kNvme);
  const StepTraffic traffic = estimate(input).traffic;
  MachineSpeeds speeds = fast();
  speeds.mixed_bytes = 0;
  EXPECT_NEAR(time_of(input, speeds).seconds,
              traffic.update_read / (2 * kGB) + traffic.update_written / (1 * kGB), 1e-9);
  speeds.read_bytes = 0;
  EXPECT_FALSE(time_of(input, speeds).storage_known);
}

TEST(StepTimeTest, WhatComputingHidesIsNotAdded) {
  const EstimateInput input = input_with(OffloadDevice::kNvme, OffloadDevice::kNvme);
  MachineSpeeds speeds = fast();
  speeds.flops = step_flops(input) / 10;  // ten seconds
  const StepTime time = time_of(input, speeds);
  EXPECT_NEAR(time.forward.seconds(true), 2.5, 1e-9);
  EXPECT_NEAR(time.backward.seconds(true), 7.5, 1e-9);
  EXPECT_NEAR(time.bound_seconds, 10, 1e-9);
  EXPECT_EQ(time.limit, Resource::kCompute);
  EXPECT_NEAR(time.seconds_added, time.update[Resource::kStorage], 1e-9);
}

TEST(StepTimeTest, InForwardOrderTheUpdateOverlapsAndItsWritesTrailIntoBackward) {
  EstimateInput input = input_with(OffloadDevice::kNone, OffloadDevice::kNvme);
  input.config.update_order = UpdateOrder::kForward;
  const StepTraffic traffic = estimate(input).traffic;
  const double update = 2 * traffic.update_read / (1.5 * kGB);
  MachineSpeeds speeds = fast();
  EXPECT_NEAR(time_of(input, speeds).seconds, update, 1e-9) << "nothing to hide behind";
  speeds.flops = step_flops(input) / (4 * update);  // forward takes as long as the update
  EXPECT_NEAR(time_of(input, speeds).seconds, 4 * update, 1e-9);
  // Forward takes a quarter of the update, and backward has room for the writes.
  speeds.flops = step_flops(input) / update;
  EXPECT_NEAR(time_of(input, speeds).seconds, update / 2 + update * 3 / 4, 1e-9);
  EXPECT_TRUE(time_of(input, speeds).in_background);
  input.on_gpu = true;
  input.config.offload_optimizer.device = OffloadDevice::kNone;
  EXPECT_FALSE(updates_in_background(input)) << "the device updates what it holds";
}

TEST(StepTimeTest, InForwardOrderTheReadsOfTheUpdatePassWithinForward) {
  EstimateInput input = input_with(OffloadDevice::kNone, OffloadDevice::kNvme);
  input.config.update_order = UpdateOrder::kForward;
  MachineSpeeds speeds = fast();
  speeds.mixed_bytes = 4 * kGB;  // each direction by itself, at 2 GB a second
  speeds.write_bytes = 2 * kGB;
  const double reads = estimate(input).traffic.update_read / (2 * kGB);
  speeds.flops = step_flops(input) / (2 * reads);
  EXPECT_NEAR(time_of(input, speeds).seconds, reads + 2 * reads * 3 / 4, 1e-9);
}

TEST(StepTimeTest, WhatWaitsOnNvmeIsWrittenInOnePhaseAndReadInTheNext) {
  EstimateInput input = input_with(OffloadDevice::kNone, OffloadDevice::kCpu);
  input.config.gradients.device = OffloadDevice::kNvme;
  input.config.activations.device = OffloadDevice::kNvme;
  const StepTraffic traffic = estimate(input).traffic;
  const StepTime time = time_of(input, fast());
  const auto seconds = [](double read, double written) { return read / (2 * kGB) + written / kGB; };
  ASSERT_GT(traffic.forward_written, 0);
  ASSERT_GT(traffic.backward_written, 0);
  EXPECT_NEAR(time.forward[Resource::kStorage], seconds(0, traffic.forward_written), 1e-9);
  const double both = std::min(traffic.backward_read, traffic.backward_written);
  EXPECT_NEAR(time.backward[Resource::kStorage],
              2 * both / (1.5 * kGB) +
                  seconds(traffic.backward_read - both, traffic.backward_written - both),
              1e-9);
  EXPECT_NEAR(time.update[Resource::kStorage], seconds(traffic.update_read, 0), 1e-9);
}

TEST(StepTimeTest, OnTheCpuUpdateAndComputeShareTheCores) {
  EstimateInput input = input_with(OffloadDevice::kCpu, OffloadDevice::kCpu);
  const double n = static_cast<double>(estimate(input).rank_elements);
  MachineSpeeds speeds = fast();
  speeds.flops = step_flops(input);  // a second
  speeds.update_bytes = 28 * n;      // the update: another
  StepTime time = time_of(input, speeds);
  EXPECT_NEAR(time.update.seconds(true), 1, 1e-9);
  // Weights copied twice (4 B), gradients summed over three micro-batches and squared (30 B).
  EXPECT_NEAR(time.seconds, 2 + (2 * 4 + (6 + 2 * 10 + 4)) / 28.0, 1e-9);
  EXPECT_NEAR(time.bound_seconds, time.seconds, 1e-9);
  input.on_gpu = true;
  speeds.pcie_bytes = 2 * n / 0.25;  // weights: a quarter of a second a sweep
  time = time_of(input, speeds);
  EXPECT_NEAR(time.forward[Resource::kToDevice], 0.25, 1e-9);
  EXPECT_NEAR(time.backward[Resource::kFromDevice], 0.5, 1e-9) << "fp32 gradients";
  EXPECT_NEAR(time.seconds, 0.25 + 0.75 + 1, 1e-9);
  EXPECT_NEAR(time.bound_seconds, 1 + 4 / 28.0, 1e-9) << "the CPU: update and norm";
}

TEST(StepTimeTest, FlopsAreEightAParameterAndTokenAndAttention) {
  EstimateInput input = input_with(OffloadDevice::kNone, OffloadDevice::kNone);
  input.model = gpt_shape(
      {.n_layer = 24, .n_embd = 2048, .n_head = 16, .n_positions = 64, .vocab_size = 256});
  const double tokens = 2 * 3 * 64;
  const double n = static_cast<double>(parameter_count(input.model));
  EXPECT_NEAR(step_flops(input) / (8 * n * tokens), 1, 0.02);
  input.context = 32;
  EXPECT_LT(step_flops(input), 8 * n * tokens / 2 * 1.02);
}

TEST(StepTimeTest, AtBreakEvenComputingTakesAsLongAsTheDrive) {
  EstimateInput input = input_with(OffloadDevice::kNvme, OffloadDevice::kNvme);
  MachineSpeeds speeds = fast();
  speeds.flops = 1e14;
  const double tokens = break_even_tokens(input, time_of(input, speeds));
  ASSERT_GT(tokens, 1000);
  const double per_micro = 2.0 * input.model.context;
  input.config.gradient_accumulation_steps = static_cast<std::uint64_t>(tokens / per_micro);
  const StepTime below = time_of(input, speeds);
  EXPECT_EQ(below.limit, Resource::kStorage);
  ++input.config.gradient_accumulation_steps;
  EXPECT_EQ(time_of(input, speeds).limit, Resource::kCompute);
  const EstimateInput in_memory = input_with(OffloadDevice::kCpu, OffloadDevice::kCpu);
  EXPECT_EQ(break_even_tokens(in_memory, time_of(in_memory, speeds)), 0);
}

TEST(StepTimeTest, ACacheTakesItsShareOffTheDrive) {
  EstimateInput input = input_with(OffloadDevice::kCpu, OffloadDevice::kNvme);
  const double nothing = time_of(input, fast()).seconds;
  input.config.offload_optimizer.max_in_cpu_elements = estimate(input).rank_elements / 2;
  EXPECT_NEAR(time_of(input, fast()).seconds / nothing, 0.5, 0.02);
}

}  // namespace
}  // namespace spillway::trainer
