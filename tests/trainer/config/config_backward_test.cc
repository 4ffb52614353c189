// Keys about activations and gradients: what they steer, and what is said where they steer nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/trainer/config.h>

#include "tests/trainer/config/config_fixture.h"

namespace spillway::trainer {
namespace {

using ::testing::HasSubstr;
using ConfigBackwardTest = ConfigFixture;

std::string checkpointing(const std::string& keys) {
  return R"({"activation_checkpointing": {)" + keys + "}}";
}

TEST_F(ConfigBackwardTest, ActivationsStayWhereTheyAreUnlessToldOtherwise) {
  const Config standard = config("{}");
  EXPECT_TRUE(standard.activations.checkpointing);
  EXPECT_EQ(standard.activations.device, OffloadDevice::kNone);
  EXPECT_EQ(config(checkpointing(R"("cpu_checkpointing": true)")).activations.device,
            OffloadDevice::kCpu);
  EXPECT_EQ(
      config(checkpointing(R"("device": "none", "cpu_checkpointing": true)")).activations.device,
      OffloadDevice::kNone);
  EXPECT_FALSE(config(checkpointing(R"("enabled": false)")).activations.checkpointing);
}

TEST_F(ConfigBackwardTest, TheStatesDirectoryServesAll) {
  const std::string json = R"({"zero_optimization": {"offload_param": {"device": "nvme",
      "nvme_path": "/swap"}}, "activation_checkpointing": {"device": "nvme"}})";
  EXPECT_EQ(config(json).activations.nvme_path, "/swap");
  EXPECT_EQ(config(json).gradients.nvme_path, "/swap");
  const ConfigInput own{.overrides = {"activation_checkpointing.nvme_path=/other",
                                      "zero_optimization.offload_gradients.nvme_path=/third"}};
  EXPECT_EQ(config(json, own).activations.nvme_path, "/other");
  EXPECT_EQ(config(json, own).gradients.nvme_path, "/third");
}

TEST_F(ConfigBackwardTest, NvmeNeedsADirectory) {
  EXPECT_THAT(problem(checkpointing(R"("device": "nvme")")),
              HasSubstr("activation_checkpointing.nvme_path: missing"));
  EXPECT_THAT(problem(R"({"zero_optimization": {"offload_gradients": {"device": "nvme"}}})"),
              HasSubstr("zero_optimization.offload_gradients.nvme_path: missing"));
  EXPECT_EQ(problem(R"({"zero_optimization": {"offload_gradients": {"device": "auto"}}})"),
            "accepted");
}

TEST_F(ConfigBackwardTest, GradientsWaitInFp32UnlessToldOtherwise) {
  EXPECT_EQ(config("{}").gradients.dtype, Dtype::kFp32);
  EXPECT_EQ(config("{}").gradients.device, std::nullopt);
  EXPECT_EQ(config(R"({"data_types": {"grad_accum_dtype": "bf16"}})").gradients.dtype,
            Dtype::kBf16);
  EXPECT_THAT(problem(R"({"data_types": {"grad_accum_dtype": "fp16"}})"),
              HasSubstr("'fp16' is none of fp32 bf16"));
  const ConfigInput cpu{.overrides = {"zero_optimization.offload_gradients.device=cpu"}};
  EXPECT_EQ(config("{}", cpu).gradients.device, OffloadDevice::kCpu);
}

TEST_F(ConfigBackwardTest, WhatWaitsOnNvmeIsReadBesideForwardUnlessToldOtherwise) {
  const auto order = [&](std::vector<std::string> places) {
    for (std::string& place : places) place = "zero_optimization." + place;
    places.push_back("zero_optimization.offload_gradients.nvme_path=/swap");
    for (const char* states : {"offload_param", "offload_optimizer"}) {
      places.push_back("zero_optimization." + std::string(states) + ".nvme_path=/swap");
    }
    return std::string(to_string(resolved_update_order(config("{}", {.overrides = places}))));
  };
  EXPECT_EQ(order({}), "after_backward");
  EXPECT_EQ(order({"offload_gradients.device=nvme"}), "forward");
  EXPECT_EQ(order({"offload_optimizer.device=nvme"}), "forward");
  EXPECT_EQ(order({"offload_param.device=nvme", "offload_optimizer.device=nvme"}), "backward");
  EXPECT_EQ(order({"offload_param.device=nvme", "offload_optimizer.device=nvme",
                   "offload_gradients.device=nvme"}),
            "forward");
}

TEST_F(ConfigBackwardTest, KeysThatDoNothingSayWhy) {
  const auto fate = [&](const std::string& keys, const std::string& name) {
    return report(checkpointing(keys), "activation_checkpointing." + name);
  };
  EXPECT_EQ(fate(R"("cpu_checkpointing": true)", "cpu_checkpointing"), "used: ");
  EXPECT_EQ(fate(R"("cpu_checkpointing": true, "device": "none")", "cpu_checkpointing"),
            "no effect: device is none");
  EXPECT_EQ(fate(R"("nvme_path": "/x")", "nvme_path"), "no effect: device is none");
  EXPECT_EQ(fate(R"("device": "cpu", "enabled": false)", "device"),
            "no effect: the graph is kept where it was made");
  EXPECT_EQ(report(R"({"zero_optimization": {"offload_gradients": {"device": "cpu",
                       "nvme_path": "/x"}}})",
                   "zero_optimization.offload_gradients.nvme_path"),
            "no effect: device is cpu");
  for (const char* key : {"partition_activations", "contiguous_memory_optimization",
                          "synchronize_checkpoint_boundary", "profile"}) {
    EXPECT_THAT(fate("\"" + std::string(key) + "\": true", key), HasSubstr("no effect: ")) << key;
  }
}

}  // namespace
}  // namespace spillway::trainer
