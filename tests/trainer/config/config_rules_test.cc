#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/trainer/config.h>

#include "tests/trainer/config/config_fixture.h"

namespace spillway::trainer {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ConfigRulesTest = ConfigFixture;

std::string batch_json(int train, int micro, int accumulation) {
  std::string json = "{";
  auto add = [&](const char* key, int value) {
    if (value == 0) return;
    json += (json.size() > 1 ? ", \"" : "\"") + std::string(key) + "\": " + std::to_string(value);
  };
  add("train_batch_size", train);
  add("train_micro_batch_size_per_gpu", micro);
  add("gradient_accumulation_steps", accumulation);
  return json + "}";
}

TEST_F(ConfigRulesTest, BatchSizesFollowFromEachOther) {
  struct Case {
    int train, micro, accumulation;                     // given; 0 = absent
    std::uint64_t is_train, is_micro, is_accumulation;  // on 2 ranks
  };
  const Case cases[] = {
      {0, 0, 0, 2, 1, 1},    {0, 4, 0, 8, 4, 1},   {0, 0, 3, 6, 1, 3},   {0, 4, 3, 24, 4, 3},
      {24, 0, 0, 24, 12, 1}, {24, 4, 0, 24, 4, 3}, {24, 0, 3, 24, 4, 3}, {24, 4, 3, 24, 4, 3},
  };
  for (const Case& c : cases) {
    const std::string json = batch_json(c.train, c.micro, c.accumulation);
    const Config config = this->config(json, {.world_size = 2});
    EXPECT_EQ(config.train_batch_size, c.is_train) << json;
    EXPECT_EQ(config.micro_batch_size, c.is_micro) << json;
    EXPECT_EQ(config.gradient_accumulation_steps, c.is_accumulation) << json;
  }
}

TEST_F(ConfigRulesTest, InconsistentBatchSizesShowTheArithmetic) {
  EXPECT_EQ(problem(batch_json(33, 4, 4), {.world_size = 2}),
            "train_batch_size 33 is not train_micro_batch_size_per_gpu 4 x "
            "gradient_accumulation_steps 4 x world size 2 = 32");
  EXPECT_EQ(problem(batch_json(33, 4, 0), {.world_size = 2}),
            "train_batch_size 33 does not divide by train_micro_batch_size_per_gpu 4 x world size "
            "2 = 8 (remainder 1)");
  EXPECT_THAT(problem(batch_json(33, 0, 4), {.world_size = 2}),
              HasSubstr("gradient_accumulation_steps 4 x world size 2 = 8 (remainder 1)"));
  EXPECT_THAT(problem(batch_json(3, 4, 0)), HasSubstr("does not divide"));
}

TEST_F(ConfigRulesTest, OverridesComeAfterTheFile) {
  const std::string json = R"({"seed": 1, "zero_optimization": {"offload_param":
      {"device": "nvme", "nvme_path": "/a", "max_in_cpu": 7}}})";
  const ConfigInput input{.overrides = {"zero_optimization.offload_param.device=none", "seed=2",
                                        "seed=3", "zero_optimization.sub_group_size=5e8",
                                        "optimizer.params.betas=[0.8, 0.9]", "bf16.enabled=true"}};
  const Config config = this->config(json, input);
  EXPECT_EQ(config.offload_param.device, OffloadDevice::kNone);
  EXPECT_EQ(config.offload_param.max_in_cpu_elements, 7u);
  EXPECT_EQ(config.seed, 3u);
  EXPECT_EQ(config.sub_group_size, 500'000'000u);
  EXPECT_EQ(config.optimizer.beta1, 0.8);
  EXPECT_EQ(config.optimizer.beta2, 0.9);
  EXPECT_EQ(config.dtype, Dtype::kBf16);
}

TEST_F(ConfigRulesTest, AnOverrideReplacesEverySpelling) {
  const std::string json = R"({"zero_optimization": {"aio": {"thread_count": 2}}})";
  EXPECT_EQ(config(json, {.overrides = {"aio.intra_op_parallelism=3"}}).aio.thread_count, 3u);
  EXPECT_EQ(config("{}", {.overrides = {"aio={\"num_threads\": 5}"}}).aio.thread_count, 5u);
}

TEST_F(ConfigRulesTest, AReplacedKeyIsNeitherReportedNorChecked) {
  const std::string json = R"({"aio": {"thread_count": "many"}, "sede": 1})";
  const ConfigInput input{.overrides = {"aio.num_threads=3", "sede=2"}};
  EXPECT_EQ(problem(json, input), "sede: unknown key, did you mean 'seed'? (override)");
  const Result<ConfigResult> result =
      load(R"({"aio": {"thread_count": 2}})", {.overrides = {"aio.intra_op_parallelism=3"}});
  ASSERT_TRUE(result);
  ASSERT_EQ(result->keys.size(), 1u);
  EXPECT_EQ(result->keys[0].key, "aio.intra_op_parallelism");
}

TEST_F(ConfigRulesTest, OverridesOfTextMayLookLikeJson) {
  const ConfigInput input{.overrides = {"zero_optimization.offload_param.device=nvme",
                                        "zero_optimization.offload_param.nvme_path=7"}};
  EXPECT_EQ(config("{}", input).offload_param.nvme_path, "7");
}

TEST_F(ConfigRulesTest, WrongOverridesAreErrorsOfTheSameKind) {
  EXPECT_EQ(problem("{}", {.overrides = {"zero_optimization.offload_parm.device=none"}}),
            "zero_optimization.offload_parm.device: unknown key, did you mean "
            "'zero_optimization.offload_param'? (override)");
  EXPECT_EQ(problem("{}", {.overrides = {"aio.queue_dept=4"}}),
            "aio.queue_dept: unknown key, did you mean 'queue_depth'? (override)");
  EXPECT_EQ(problem("{}", {.overrides = {"seed"}}), "override 'seed': expected key=value");
  EXPECT_EQ(problem("{}", {.overrides = {"seed=x"}}),
            "seed: a whole number is expected, found \"x\" (override)");
}

TEST_F(ConfigRulesTest, OptimizersHaveTheirOwnDefaultsAndParameters) {
  auto json = [](const std::string& type, const std::string& params) {
    return R"({"optimizer": {"type": ")" + type + R"(", "params": {)" + params + "}}}";
  };
  EXPECT_EQ(config(json("Adam", "")).optimizer.weight_decay, 0.0);
  EXPECT_EQ(config(json("AdamW", "")).optimizer.weight_decay, 0.01);
  EXPECT_EQ(config(json("adamw", "")).optimizer.kind, OptimizerKind::kAdamW);
  EXPECT_EQ(config(json("Adam", R"("weight_decay": 0.1)")).optimizer.weight_decay, 0.1);
  EXPECT_EQ(config(json("Adam", "")).optimizer.kind, OptimizerKind::kAdamW) << "as DeepSpeed";
  EXPECT_EQ(config(json("Adam", R"("adam_w_mode": false)")).optimizer.kind, OptimizerKind::kAdam);
  EXPECT_EQ(config(json("AdamW", R"("adam_w_mode": false)")).optimizer.kind, OptimizerKind::kAdamW);
  const OptimizerConfig lion = config(json("lion", "")).optimizer;
  EXPECT_EQ(lion.kind, OptimizerKind::kLion);
  EXPECT_EQ(std::tuple(lion.learning_rate, lion.beta1, lion.beta2, lion.weight_decay),
            std::tuple(1e-3, 0.9, 0.99, 0.0));
  const OptimizerConfig adagrad = config(json("Adagrad", "")).optimizer;
  EXPECT_EQ(adagrad.kind, OptimizerKind::kAdagrad);
  EXPECT_EQ(std::tuple(adagrad.learning_rate, adagrad.epsilon, adagrad.weight_decay),
            std::tuple(1e-2, 1e-10, 0.0));
  EXPECT_EQ(config(json("Lion", R"("betas": [0.8, 0.9], "lr": 2)")).optimizer.beta2, 0.9);
  EXPECT_THAT(problem(json("Lion", R"("eps": 1e-8)")),
              HasSubstr("optimizer.params.eps: Lion has no such parameter"));
  EXPECT_THAT(problem(json("Adagrad", R"("betas": [0.8, 0.9])")),
              HasSubstr("optimizer.params.betas: Adagrad has no such parameter"));
  EXPECT_THAT(problem(json("Lion", R"("adam_w_mode": true)")), HasSubstr("no such parameter"));
  EXPECT_EQ(config(json("AdamW", "")).optimizer.state_dtype, StateDtype::kFp32);
  EXPECT_EQ(config(json("Lion", R"("state_dtype": "bf16")")).optimizer.state_dtype,
            StateDtype::kBf16);
  EXPECT_EQ(config(json("AdamW", R"("state_dtype": "int8")")).optimizer.state_dtype,
            StateDtype::kInt8);
  EXPECT_THAT(problem(json("Adagrad", R"("state_dtype": "bf16")")),
              HasSubstr("optimizer.params.state_dtype: Adagrad's sum of squares would stop"));
  EXPECT_THAT(problem(json("AdamX", "")), HasSubstr("did you mean 'AdamW'?"));
  EXPECT_THAT(report(json("AdamW", ""), "optimizer.type"),
              HasSubstr("weight_decay 0.01 by default"));
  EXPECT_TRUE(
      config(json("AdamW", R"("decay_biases_and_norms": true)")).optimizer.decay_biases_and_norms);
}

TEST_F(ConfigRulesTest, SchedulersTakeTheirOwnParameters) {
  EXPECT_THAT(problem(R"({"scheduler": {"type": "WarmupLR", "params": {"cos_min_ratio": 0.1}}})"),
              HasSubstr("scheduler.params.cos_min_ratio: WarmupLR has no such parameter"));
  EXPECT_THAT(problem(R"({"scheduler": {"type": "WarmupLR", "params": {"total_num_steps": 9}}})"),
              HasSubstr("WarmupLR has no such parameter"));
  EXPECT_THAT(problem(R"({"scheduler": {"type": "WarmupCosineLR",
                          "params": {"total_num_steps": 9, "warmup_max_lr": 0.1}}})"),
              HasSubstr("WarmupCosineLR has no such parameter"));
  EXPECT_THAT(problem(R"({"scheduler": {"type": "WarmupDecayLR"}})"),
              HasSubstr("scheduler.params.total_num_steps: required for WarmupDecayLR"));
  EXPECT_THAT(problem(R"({"scheduler": {"type": "WarmupCosinLR"}})"),
              HasSubstr("did you mean 'WarmupCosineLR'?"));
  // A refused type's own parameters need no complaints beside the type's.
  EXPECT_EQ(problem(R"({"scheduler": {"type": "OneCycle", "params": {"cycle_min_lr": 0.1}}})"),
            "scheduler.type: OneCycle would change results and is not built");
}

TEST_F(ConfigRulesTest, MissingFileIsNotFound) {
  const Result<ConfigResult> result = load_config({.file = "/nonexistent/nvme.json"});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(result.error().path, "/nonexistent/nvme.json");
}

// As `aio_bench --write-config` writes it.
constexpr const char* kTuned = R"json({"aio": {"block_size": 1048576, "queue_depth": 16,
  "intra_op_parallelism": 1, "single_submit": false, "overlap_events": true,
  "tuned": {"device": "/dev/nvme0n1 (Fast)", "filesystem": "ext4", "read_gb_per_second": 6,
            "write_gb_per_second": 3, "mix_gb_per_second": 4, "spread": 0.125}}})json";

TEST_F(ConfigRulesTest, WhatTheBlockWasTunedOnIsKept) {
  const TunedDrive tuned = config(kTuned).tuned;
  EXPECT_EQ(tuned.device, "/dev/nvme0n1 (Fast)");
  EXPECT_EQ(tuned.filesystem, "ext4");
  EXPECT_EQ(tuned.read_gb_per_second, 6);
  EXPECT_EQ(tuned.write_gb_per_second, 3);
  EXPECT_EQ(tuned.mix_gb_per_second, 4);
  EXPECT_EQ(tuned.spread, 0.125);
  EXPECT_EQ(config("{}").tuned.device, "");
  EXPECT_THAT(problem(R"({"aio": {"tuned": {"devise": "x"}}})"),
              HasSubstr("did you mean 'device'?"));
}

TEST_F(ConfigRulesTest, TunedSecondsTakeAsMuchAsCanBeForAMix) {
  const TunedDrive tuned = config(kTuned).tuned;
  EXPECT_DOUBLE_EQ(tuned.seconds_for(6'000'000'000, 0), 1);
  EXPECT_DOUBLE_EQ(tuned.seconds_for(0, 6'000'000'000), 2);
  EXPECT_DOUBLE_EQ(tuned.seconds_for(2'000'000'000, 2'000'000'000), 1);
  EXPECT_DOUBLE_EQ(tuned.seconds_for(5'000'000'000, 2'000'000'000), 1.5);
  EXPECT_EQ(tuned.seconds_for(0, 0), 0);
  TunedDrive reads_only;
  reads_only.read_gb_per_second = 6;
  EXPECT_DOUBLE_EQ(reads_only.seconds_for(3'000'000'000, 0), 0.5);
  EXPECT_EQ(reads_only.seconds_for(3'000'000'000, 1), 0);  // not known
}

// A path may be any bytes; what stands in a message is replaced, and nothing throws.
TEST_F(ConfigRulesTest, BytesThatAreNoUtf8AreNamedInMessages) {
  ConfigInput input;
  input.overrides = {"train_batch_size=\xff", "bf16=\xff\xfe"};
  const std::string text = problem("{}", input);
  EXPECT_NE(text.find("train_batch_size: a whole number"), std::string::npos) << text;
  EXPECT_NE(text.find("\xef\xbf\xbd"), std::string::npos) << text;
  EXPECT_NE(text.find("bf16: a section"), std::string::npos) << text;
}

}  // namespace
}  // namespace spillway::trainer
