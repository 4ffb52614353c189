#include "trainer/plan/optimizer_layout.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace spillway::trainer {
namespace {

Config config_of(OptimizerKind kind, Dtype dtype, StateDtype states) {
  Config config;
  config.optimizer.kind = kind;
  config.dtype = dtype;
  config.optimizer.state_dtype = states;
  return config;
}

std::string planes_of(const Config& config) {
  std::string text;
  const swapper::Layout layout = optimizer_layout(config);
  for (const swapper::Plane& plane : layout.planes()) {
    text += plane.name + ":" + std::to_string(plane.bytes_per_block) + "/" +
            std::to_string(plane.elements_per_block) + " ";
  }
  return text;
}

TEST(OptimizerLayout, HasThePlanesOfTheOptimizer) {
  using enum OptimizerKind;
  EXPECT_EQ(planes_of(config_of(kAdamW, Dtype::kBf16, StateDtype::kFp32)),
            "param_lo:2/1 exp_avg:4/1 exp_avg_sq:4/1 ");
  EXPECT_EQ(planes_of(config_of(kAdam, Dtype::kFp32, StateDtype::kBf16)),
            "exp_avg:2/1 exp_avg_sq:2/1 ");
  EXPECT_EQ(
      planes_of(config_of(kAdamW, Dtype::kBf16, StateDtype::kInt8)),
      "param_lo:2/1 exp_avg:1/1 exp_avg_sq:1/1 exp_avg_absmax:4/256 exp_avg_sq_absmax:4/256 ");
  EXPECT_EQ(planes_of(config_of(kLion, Dtype::kBf16, StateDtype::kInt8)),
            "param_lo:2/1 exp_avg:1/1 exp_avg_absmax:4/256 ");
  EXPECT_EQ(planes_of(config_of(kAdagrad, Dtype::kFp32, StateDtype::kFp32)), "sum:4/1 ");
}

TEST(OptimizerLayout, BytesAnElementAreThoseOfTheTable) {
  using enum OptimizerKind;
  const auto bytes = [](OptimizerKind kind, StateDtype states) {
    const Config config = config_of(kind, Dtype::kBf16, states);
    return bytes_per_element(weight_layout(config)) + bytes_per_element(optimizer_layout(config));
  };
  EXPECT_EQ(bytes(kAdamW, StateDtype::kFp32), 12);
  EXPECT_EQ(bytes(kAdamW, StateDtype::kBf16), 8);
  EXPECT_EQ(bytes(kAdamW, StateDtype::kInt8), 6.03125);
  EXPECT_EQ(bytes(kLion, StateDtype::kFp32), 8);
}

TEST(OptimizerLayout, TilesOfInt8AreWholeBlocks) {
  Config config = config_of(OptimizerKind::kAdamW, Dtype::kBf16, StateDtype::kInt8);
  config.sub_group_size = 777;
  EXPECT_EQ(tile_elements(config, 1 << 20), 768u);
  EXPECT_EQ(tile_elements(config, 100), 256u);
  config.optimizer.state_dtype = StateDtype::kFp32;
  EXPECT_EQ(tile_elements(config, 1 << 20), 777u);
  EXPECT_EQ(tile_elements(config, 100), 100u);
}

TEST(UpdatePlanes, AreTakenInTheOrderOfTheLayout) {
  std::vector<std::byte> memory(6);
  std::vector<std::byte*> planes;
  for (int i = 1; i < 6; ++i) planes.push_back(&memory[i]);
  const OptimizerFormat format{.weights = Dtype::kBf16, .states = StateDtype::kInt8};
  const UpdatePlanes taken = update_planes(format, &memory[0], planes);
  EXPECT_EQ(taken.weight, &memory[0]);
  EXPECT_EQ(static_cast<void*>(taken.weight_lo), &memory[1]);
  EXPECT_EQ(taken.states[0], &memory[2]);
  EXPECT_EQ(taken.states[1], &memory[3]);
  EXPECT_EQ(static_cast<void*>(taken.absmax[0]), &memory[4]);
  EXPECT_EQ(static_cast<void*>(taken.absmax[1]), &memory[5]);
  planes.pop_back();
  EXPECT_DEATH(update_planes(format, &memory[0], planes), "one address for each plane");
}

}  // namespace
}  // namespace spillway::trainer
