#include "tools/spillway/estimate/plan.h"

#include <gtest/gtest.h>
#include <spillway/trainer/model.h>
#include "trainer/models/gpt2/family.h"

#include "tools/spillway/estimate/deepspeed_memory.h"
#include "tools/spillway/estimate/gpu_kinds.h"

namespace spillway::tools {
namespace {

using trainer::EstimateInput;
using trainer::OffloadDevice;

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

double rounded(double bytes) { return std::round(bytes / kGiB * 100) / 100; }

// DeepSpeed's documentation, "Memory Requirements", for 2851 M parameters, layers of 32 M, one node
// of 8 GPUs; stage 2 without offload as version 0.19.8 computes it.
TEST(DeepspeedMemoryTest, TheTableOfItsDocumentation) {
  const auto rows = deepspeed_memory(
      {.parameters = 2851e6, .largest_layer_parameters = 32e6, .gpus_per_node = 8, .nodes = 1});
  const double expected[][2] = {{71.69, 0.12}, {127.45, 0.12}, {63.72, 0.78},  {127.45, 0.78},
                                {1.43, 6.09},  {127.45, 6.09}, {127.45, 5.31}, {127.45, 11.28}};
  ASSERT_EQ(rows.size(), std::size(expected));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_NEAR(rounded(rows[i].cpu_bytes), expected[i][0], 0.011) << i;
    EXPECT_NEAR(rounded(rows[i].gpu_bytes), expected[i][1], 0.011) << i;
  }
  EXPECT_EQ(rows[0].stage, 3);
  EXPECT_TRUE(rows[0].zero_init);
  EXPECT_EQ(rows[7].stage, 2);
}

TEST(DeepspeedMemoryTest, NodesShareTheStates) {
  const auto one = deepspeed_memory({1e9, 1e7, 8, 1});
  const auto two = deepspeed_memory({1e9, 1e7, 8, 2});
  EXPECT_EQ(two[0].cpu_bytes, one[0].cpu_bytes / 2);
  EXPECT_EQ(two[5].cpu_bytes, one[5].cpu_bytes) << "each node makes the whole model";
  EXPECT_EQ(two[6].cpu_bytes, 2 * one[6].cpu_bytes) << "as 0.19.8 counts all GPUs at stage 2";
}

// gpt-lite's largest module is the first projection of an MLP; a block is three times as large.
TEST(DeepspeedMemoryTest, TheLargestModuleIsNoUnit) {
  const auto model = trainer::load_model_config("gpt-lite");
  ASSERT_TRUE(model);
  const std::uint64_t width = (*model)->shape().width;
  EXPECT_EQ(largest_module_parameters((*model)->tensors()), 4 * width * width + 4 * width);
}

trainer::GptConfig gpt_lite() { return *trainer::named_gpt("gpt-lite"); }

EstimateInput small_input() {
  EstimateInput input;
  input.model = trainer::gpt_shape(gpt_lite());
  input.config.dtype = trainer::Dtype::kBf16;
  input.config.micro_batch_size = 1;
  input.config.gradient_accumulation_steps = 1;
  input.config.train_batch_size = 1;
  input.config.offload_param.device = OffloadDevice::kNvme;
  input.config.offload_optimizer.device = OffloadDevice::kNvme;
  input.config.update_order = trainer::UpdateOrder::kAfterBackward;
  return input;
}

Machine machine_with(std::uint64_t ram_gib, std::uint64_t nvme_gib) {
  Machine machine;
  machine.ram_bytes = ram_gib << 30;
  machine.nvme_bytes = nvme_gib << 30;
  machine.speeds = {.flops = 1e14,
                    .read_bytes = 2e9,
                    .write_bytes = 1e9,
                    .mixed_bytes = 1.5e9,
                    .update_bytes = 5e10,
                    .hash_bytes = 5e10};
  machine.times_known = true;
  return machine;
}

TEST(FitTest, TheLargestModelFitsAndAWiderOneDoesNot) {
  const EstimateInput input = small_input();
  const Machine machine = machine_with(16, 100);
  const auto largest = largest_model(*trainer::gpt2_model(gpt_lite()), input, machine);
  ASSERT_TRUE(largest);
  const std::optional<Plan>& best = largest->plan;
  ASSERT_TRUE(best);
  EXPECT_TRUE(misfits(*best, machine).empty());
  EstimateInput wider = input;
  const auto width = static_cast<std::uint32_t>(best->input.model.width);
  EXPECT_EQ(trainer::gpt_config(*largest->model.model).n_embd, width);
  wider.model = trainer::gpt_shape(trainer::gpt3_like(gpt_lite(), width + 64));
  EXPECT_FALSE(misfits(make_plan(wider, machine), machine).empty());
  EXPECT_GT(best->estimate.parameters, parameter_count(input.model));
  // Gradients in RAM are what binds: 4 B a parameter.
  EXPECT_GT(best->ram_needed, (std::uint64_t{16} << 30) * 8 / 10);
}

TEST(FitTest, TheLargestBatchFitsAndOneMoreDoesNot) {
  const EstimateInput input = small_input();
  const Machine machine = machine_with(4, 100);
  const auto best = largest_batch(input, machine);
  ASSERT_TRUE(best);
  EstimateInput more = best->input;
  ++more.config.gradient_accumulation_steps;
  ++more.config.train_batch_size;
  EXPECT_TRUE(misfits(*best, machine).empty());
  EXPECT_FALSE(misfits(make_plan(more, machine), machine).empty());
  EXPECT_EQ(best->input.config.train_batch_size, best->input.config.gradient_accumulation_steps);
}

TEST(CheckpointRoomTest, LinksTakeTheSwapFilesDriveAndCopiesAnother) {
  EstimateInput input = small_input();
  input.world_size = 2;
  Machine machine = machine_with(100, 1000);
  const auto room = [&] { return checkpoint_room(make_plan(input, machine), machine); };
  EXPECT_EQ(room().nvme_bytes + room().directory_bytes, 0u) << "no checkpoints";
  const trainer::Estimate estimate = make_plan(input, machine).estimate;
  // 12 B a parameter (hi, lo and two moments), and some of padding.
  EXPECT_GE(estimate.checkpoint_bytes, 12 * estimate.parameters);
  EXPECT_LE(estimate.checkpoint_bytes, 12 * estimate.parameters * 101 / 100);
  machine.saved = SavedWhere{.directory = "saved", .at_most = 3, .linked = true};
  EXPECT_EQ(room().nvme_bytes, 3 * estimate.checkpoint_bytes / 2) << "this rank's half";
  EXPECT_EQ(room().directory_bytes, 0u);
  machine.saved->linked = false;
  EXPECT_EQ(room().nvme_bytes, estimate.generation_bytes);
  EXPECT_EQ(room().directory_bytes, 3 * estimate.checkpoint_bytes);
  input.config.update_order = trainer::UpdateOrder::kBackward;
  EXPECT_EQ(room().nvme_bytes, estimate.generation_bytes) << "beside the two that it has";
}

TEST(CheckpointRoomTest, WhatDoesNotFitIsNamed) {
  const EstimateInput input = small_input();
  Machine machine = machine_with(100, 1000);
  const Plan plan = make_plan(input, machine);
  machine.saved = SavedWhere{.directory = "saved", .at_most = 3, .linked = true};
  machine.nvme_bytes = plan.estimate.total.nvme + 2 * plan.estimate.checkpoint_bytes;
  ASSERT_EQ(misfits(plan, machine).size(), 1u);
  EXPECT_NE(misfits(plan, machine)[0].find("NVMe, with checkpoints"), std::string::npos);
  machine.saved->linked = false;
  EXPECT_TRUE(misfits(plan, machine).empty());
  machine.saved->free_bytes = 2 * plan.estimate.checkpoint_bytes;
  ASSERT_EQ(misfits(plan, machine).size(), 1u);
  EXPECT_NE(misfits(plan, machine)[0].find("checkpoints in saved"), std::string::npos);
}

TEST(FitTest, NothingFitsIntoNothing) {
  Machine machine = machine_with(1, 100);
  machine.ram_bytes = 1 << 20;
  const auto largest = largest_model(*trainer::gpt2_model(gpt_lite()), small_input(), machine);
  ASSERT_TRUE(largest);
  EXPECT_FALSE(largest->plan);
  EXPECT_EQ(largest->model.name, "a model of width 64");
  EXPECT_FALSE(largest_batch(small_input(), machine));
  machine = machine_with(100, 100);
  machine.device_bytes = 1 << 20;
  EstimateInput input = small_input();
  input.on_gpu = true;
  machine.speeds.pcie_bytes = 25e9;
  EXPECT_FALSE(largest_batch(input, machine));
}

TEST(FitTest, ShapesAreGpt3s) {
  const trainer::GptConfig like = gpt_lite();
  for (const auto& [width, layers] :
       {std::pair(768u, 12u), std::pair(4096u, 32u), std::pair(12288u, 96u), std::pair(64u, 1u)}) {
    const trainer::GptConfig model = trainer::gpt3_like(like, width);
    EXPECT_EQ(model.n_layer, layers);
    EXPECT_EQ(model.n_embd, width);
    EXPECT_EQ(model.n_embd % model.n_head, 0u);
    EXPECT_EQ(model.n_positions, like.n_positions);
    EXPECT_TRUE(trainer::validate(model));
  }
  std::uint64_t before = 0;
  for (std::uint32_t width = 64; width <= 16384; width += 64) {
    const std::uint64_t count = trainer::parameter_count(trainer::gpt3_like(like, width));
    EXPECT_GT(count, before) << width;
    before = count;
  }
}

TEST(AdviceTest, WhatIsAdvisedFitsAndIsFasterByThatMuch) {
  const EstimateInput input = small_input();
  const Machine machine = machine_with(16, 100);
  const Plan plan = make_plan(input, machine);
  const auto advice = advise(plan, machine);
  ASSERT_GE(advice.size(), 2u);
  EXPECT_NE(advice[0].change.find("train_batch_size 1 -> "), std::string::npos) << advice[0].change;
  EXPECT_NE(advice[0].why.find("T* = "), std::string::npos);
  for (std::size_t i = 0; i < advice.size(); ++i) {
    EXPECT_GT(advice[i].times_faster, 1.02);
    if (i > 0) {
      EXPECT_LE(advice[i].times_faster, advice[i - 1].times_faster);
    }
  }
  // All of it in RAM: the drive does nothing.
  EstimateInput cached = input;
  cached.config.offload_optimizer.max_in_cpu_elements = plan.estimate.rank_elements;
  const auto found = std::find_if(advice.begin(), advice.end(), [](const Advice& one) {
    return one.change.starts_with("offload_optimizer.max_in_cpu 0 -> ");
  });
  ASSERT_NE(found, advice.end());
  EXPECT_NEAR(found->times_faster,
              make_plan(cached, machine).tokens_per_second() / plan.tokens_per_second(), 1e-9);
}

TEST(AdviceTest, OrdersThatHideMoreAreAdvisedUntilTheyAreChosen) {
  EstimateInput input = small_input();
  input.config.gradient_accumulation_steps = input.config.train_batch_size = 64;
  const Machine machine = machine_with(16, 100);
  const auto advised = [&](const std::string& order) {
    const auto advice = advise(make_plan(input, machine), machine);
    return std::any_of(advice.begin(), advice.end(), [&](const Advice& one) {
      return one.change == "offload_optimizer.update_order " + order;
    });
  };
  EXPECT_TRUE(advised("forward"));
  input.config.update_order = trainer::UpdateOrder::kForward;
  EXPECT_FALSE(advised("forward"));
  EXPECT_TRUE(advised("backward"));
  input.config.update_order = trainer::UpdateOrder::kBackward;
  EXPECT_FALSE(advised("forward"));
  EXPECT_FALSE(advised("backward"));
}

TEST(PlanTest, AutoIsBackwardOnADriveWithRoomForFourGenerations) {
  EstimateInput input = small_input();
  input.config.update_order = trainer::UpdateOrder::kForward;
  Machine machine = machine_with(16, 0);
  machine.nvme_bytes = Machine::kUnknown;
  const std::uint64_t one = make_plan(input, machine).estimate.total.nvme;
  input.config.update_order = trainer::UpdateOrder::kAuto;
  EXPECT_EQ(make_plan(input, machine).estimate.total.nvme, 2 * one);
  machine.nvme_bytes = 4 * one;
  EXPECT_EQ(make_plan(input, machine).estimate.total.nvme, 2 * one);
  machine.nvme_bytes = 4 * one - 4;
  EXPECT_EQ(make_plan(input, machine).estimate.total.nvme, one);
  input.world_size = 2;  // halves, on one drive
  for (const auto& [room, order] : {std::pair(3 * one, trainer::UpdateOrder::kForward),
                                    std::pair(5 * one, trainer::UpdateOrder::kBackward)}) {
    machine.nvme_bytes = room;
    EXPECT_EQ(make_plan(input, machine).input.config.update_order, order) << room;
  }
}

TEST(AdviceTest, ACacheIsNotAdvisedWhereNoMemoryIsFree) {
  const EstimateInput input = small_input();
  Machine machine = machine_with(16, 100);
  machine.ram_bytes = make_plan(input, machine).ram_needed * 20 / 19 + (1 << 20);
  for (const Advice& advice : advise(make_plan(input, machine), machine)) {
    EXPECT_EQ(advice.change.find("max_in_cpu"), std::string::npos) << advice.change;
  }
}

TEST(GpuKindsTest, NamesAreFoundAndFiguresAreSane) {
  for (const GpuKind& kind : gpu_kinds()) {
    EXPECT_EQ(find_gpu(kind.name), &kind);
    EXPECT_GT(kind.bf16_tflops, 10);
    EXPECT_GT(kind.memory_gb_per_second, kind.pcie_gb_per_second);
  }
  EXPECT_EQ(find_gpu("h10"), nullptr);
}

}  // namespace
}  // namespace spillway::tools
