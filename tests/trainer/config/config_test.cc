#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spillway/trainer/config.h>
#include <algorithm>

#include "tests/trainer/config/config_fixture.h"

namespace spillway::trainer {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ConfigTest = ConfigFixture;

TEST_F(ConfigTest, EmptyMeansTheDefaults) {
  const Config config = this->config("{}");
  EXPECT_EQ(config.train_batch_size, 1u);
  EXPECT_EQ(config.micro_batch_size, 1u);
  EXPECT_EQ(config.gradient_accumulation_steps, 1u);
  EXPECT_EQ(config.dtype, Dtype::kFp32);
  EXPECT_EQ(config.gradient_clipping, 1.0);
  EXPECT_EQ(config.offload_param.max_in_cpu_elements, OffloadConfig::kAutoCache);
  EXPECT_EQ(config.offload_optimizer.max_in_cpu_elements, OffloadConfig::kAutoCache);
  EXPECT_EQ(config.offload_param.pin_memory, std::nullopt);
  EXPECT_EQ(config.optimizer.kind, OptimizerKind::kAdamW);
  EXPECT_EQ(config.optimizer.weight_decay, 0.01);
  EXPECT_EQ(config.scheduler.kind, ScheduleKind::kConstant);
  EXPECT_TRUE(load_config({}));  // no file at all
}

TEST_F(ConfigTest, EveryKeyIsAcceptedWithItsDefault) {
  ASSERT_GT(known_keys().size(), 100u);
  for (const KnownKey& key : known_keys()) {
    SCOPED_TRACE(key.key);
    ConfigInput input;
    // What the key's default needs beside it to be a whole configuration.
    if (key.key == "scheduler.params.warmup_min_ratio" ||
        key.key == "scheduler.params.cos_min_ratio") {
      input.overrides = {"scheduler.type=WarmupCosineLR", "scheduler.params.total_num_steps=9"};
    }
    const Result<ConfigResult> result = load(nested(key.key, key.standard), input);
    ASSERT_TRUE(result) << result.error().detail;
    ASSERT_GE(result->keys.size(), 1u);
    EXPECT_EQ(result->keys[0].key, key.key);
    if (key.key_class != KeyClass::kUsed) {
      EXPECT_EQ(result->keys[0].fate, KeyFate::kNoEffect);
      EXPECT_NE(result->keys[0].note, "") << "a key without effect says why";
    }
  }
}

// The defaults of DeepSpeed itself, which are not all ours.
constexpr const char* kDeepSpeedDefaults = R"({
  "gradient_clipping": 1.0, "communication_data_type": null, "prescale_gradients": false,
  "gradient_predivide_factor": 1.0, "steps_per_print": 10, "wall_clock_breakdown": false,
  "memory_breakdown": false, "dump_state": false, "zero_allow_untested_optimizer": false,
  "zero_force_ds_cpu_optimizer": true, "dataloader_drop_last": false,
  "fp16": {"enabled": false, "auto_cast": false, "loss_scale": 0, "initial_scale_power": 16,
           "loss_scale_window": 1000, "hysteresis": 2, "consecutive_hysteresis": false,
           "min_loss_scale": 1},
  "bf16": {"enabled": false, "immediate_grad_update": false, "check_grad_overflow": true},
  "data_types": {"grad_accum_dtype": null},
  "zero_optimization": {"stage": 0, "contiguous_gradients": true, "reduce_scatter": true,
    "reduce_bucket_size": 5e8, "allgather_partitions": true, "allgather_bucket_size": 5e8,
    "overlap_comm": null, "sub_group_size": 1e9, "round_robin_gradients": false,
    "ignore_unused_parameters": true, "memory_efficient_linear": true,
    "stage3_prefetch_bucket_size": 5e7, "stage3_param_persistence_threshold": 1e5,
    "stage3_model_persistence_threshold": 9223372036854775807,
    "stage3_max_live_parameters": 1e9, "stage3_max_reuse_distance": 1e9,
    "stage3_gather_16bit_weights_on_model_save": false,
    "zero_hpz_partition_size": 1, "zero_quantized_weights": false,
    "zero_quantized_gradients": false, "mics_shard_size": -1,
    "mics_hierarchical_params_gather": false,
    "offload_param": {"device": "none", "nvme_path": null, "buffer_count": 5, "buffer_size": 1e8,
                      "max_in_cpu": 1e9, "pin_memory": true},
    "offload_optimizer": {"device": "none", "nvme_path": null, "buffer_count": 4,
      "pin_memory": true, "pipeline_read": false, "pipeline_write": false, "fast_init": false,
      "ratio": 1.0}},
  "aio": {"block_size": 1048576, "queue_depth": 8, "intra_op_parallelism": 1,
          "single_submit": false, "overlap_events": true, "use_gds": false},
  "activation_checkpointing": {"partition_activations": false, "number_checkpoints": null,
    "contiguous_memory_optimization": false, "cpu_checkpointing": false,
    "synchronize_checkpoint_boundary": false, "profile": false},
  "checkpoint": {"tag_validation": "WARN", "load_universal": false,
                 "use_node_local_storage": false},
  "tensorboard": {"enabled": false, "output_path": "", "job_name": "x"},
  "csv_monitor": {"enabled": false, "output_path": "", "job_name": "x"}})";

TEST_F(ConfigTest, DeepSpeedsDefaultsAreAccepted) {
  const Config config = this->config(kDeepSpeedDefaults);
  EXPECT_EQ(config.aio.queue_depth, 8u);
  EXPECT_EQ(config.steps_per_print, 10u);
  EXPECT_EQ(config.offload_param.max_in_cpu_elements, 1'000'000'000u);
  EXPECT_EQ(config.offload_param.pin_memory, true);
}

// The NVMe example of the integration guide that most users start from.
std::string nvme_guide(const std::string& end) {
  return R"({
    "zero_optimization": {
        "stage": 3,
        "offload_optimizer": {
            "device": "nvme",
            "nvme_path": "/local_nvme",
            "pin_memory": true,
            "buffer_count": 4,
            "fast_init": false
        },
        "offload_param": {
            "device": "nvme",
            "nvme_path": "/local_nvme",
            "pin_memory": true,
            "buffer_count": 5,
            "buffer_size": 1e8,
            "max_in_cpu": 1e9
        },
        "aio": {
            "block_size": 262144,
            "queue_depth": 32,
            "thread_count": 1,
            "single_submit": false,
            "overlap_events": true
        },
        "overlap_comm": true,
        "contiguous_gradients": true,
        "sub_group_size": 1e9,
        "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
        "stage3_max_live_parameters": 1e9,
        "stage3_max_reuse_distance": 1e9,
        "stage3_gather_16bit_weights_on_model_save": true
    })" + end;
}

TEST_F(ConfigTest, MaxInCpuIsANumberOrWhatIsFree) {
  const auto with = [](const std::string& value) {
    return R"({"zero_optimization": {"offload_optimizer": {"device": "nvme", "nvme_path": "/x",
               "max_in_cpu": )" +
           value + "}}}";
  };
  EXPECT_EQ(config(with("5e8")).offload_optimizer.max_in_cpu_elements, 500'000'000u);
  EXPECT_EQ(config(with("\"auto\"")).offload_optimizer.max_in_cpu_elements,
            OffloadConfig::kAutoCache);
  EXPECT_THAT(report(with("\"auto\""), "zero_optimization.offload_optimizer.max_in_cpu"),
              HasSubstr("auto -> what of the RAM is safely free"));
}

TEST_F(ConfigTest, TheGuidesNvmeExampleRuns) {
  const Config config = this->config(nvme_guide("\n}\n"));
  EXPECT_EQ(config.offload_param.device, OffloadDevice::kNvme);
  EXPECT_EQ(config.offload_param.nvme_path, "/local_nvme");
  EXPECT_EQ(config.offload_param.max_in_cpu_elements, 1'000'000'000u);
  EXPECT_EQ(config.offload_param.pin_memory, true);
  EXPECT_EQ(config.offload_optimizer.device, OffloadDevice::kNvme);
  EXPECT_EQ(config.offload_optimizer.max_in_cpu_elements, OffloadConfig::kAutoCache);
  EXPECT_EQ(config.aio.block_size_bytes, 262144u);
  EXPECT_EQ(config.aio.queue_depth, 32u);
  const std::string guide = nvme_guide("}");
  EXPECT_EQ(report(guide, "zero_optimization.aio.block_size"), "deprecated: use aio.block_size");
  EXPECT_EQ(report(guide, "zero_optimization.aio.thread_count"),
            "deprecated: use aio.intra_op_parallelism");
  EXPECT_THAT(report(guide, "zero_optimization.offload_optimizer.buffer_count"),
              HasSubstr("no effect: "));
  EXPECT_EQ(report(guide, "zero_optimization.offload_param.max_in_cpu"), "used: ");
  EXPECT_THAT(report(guide, "zero_optimization.reduce_bucket_size", {.hidden_size = 100}),
              HasSubstr("resolved: auto -> 10000;"));
  EXPECT_THAT(report(guide, "zero_optimization.stage3_prefetch_bucket_size", {.hidden_size = 100}),
              HasSubstr("resolved: auto -> 9000;"));
  EXPECT_THAT(
      report(guide, "zero_optimization.stage3_param_persistence_threshold", {.hidden_size = 100}),
      HasSubstr("resolved: auto -> 1000;"));
  EXPECT_THAT(report(guide, "zero_optimization.stage3_prefetch_bucket_size"),
              HasSubstr("auto -> 0.9 x hidden_size^2"));
}

TEST_F(ConfigTest, ReportsKeysInTheFilesOrder) {
  const Result<ConfigResult> result = load(nvme_guide("}"));
  ASSERT_TRUE(result);
  ASSERT_EQ(result->keys.size(), 26u);
  EXPECT_EQ(result->keys.front().key, "zero_optimization.stage");
  EXPECT_EQ(result->keys[4].key, "zero_optimization.offload_optimizer.buffer_count");
  EXPECT_EQ(result->keys.back().key, "zero_optimization.stage3_gather_16bit_weights_on_model_save");
}

TEST_F(ConfigTest, TrailingCommaNamesLineAndColumn) {
  // The guide's own example ends "},\n}".
  EXPECT_EQ(problem(nvme_guide(",\n}\n")), "line 35, column 6: trailing comma before '}'");
  EXPECT_EQ(problem("{\"optimizer\":\n {\"params\": {\"betas\": [0.9, 0.95,]}}}"),
            "line 2, column 33: trailing comma before ']'");
}

TEST_F(ConfigTest, SyntaxErrorNamesLineAndColumn) {
  EXPECT_THAT(problem("{\n  \"stage\" 3\n}"),
              AllOf(HasSubstr("line 2, column 11: syntax error"), HasSubstr("expected ':'")));
  EXPECT_THAT(problem("{\"seed\": 1"), HasSubstr("unexpected end of input"));
  EXPECT_THAT(problem(""), HasSubstr("line 1, column 1"));
  EXPECT_THAT(problem("[1, 2]"), HasSubstr("expected an object {...}, found a array"));
}

TEST_F(ConfigTest, KeyGivenTwiceIsAnError) {
  EXPECT_EQ(problem("{\"seed\": 1,\n \"seed\": 2}"),
            "line 2, column 2: key 'seed' is given twice, first at line 1, column 2");
}

TEST_F(ConfigTest, UnknownKeyNamesTheNearestInItsSection) {
  EXPECT_EQ(problem(R"({"zero_optimization": {"offload_optimizer": {"pipeline_raed": true}}})"),
            "zero_optimization.offload_optimizer.pipeline_raed: unknown key, did you mean "
            "'pipeline_read'? (line 1, column 46)");
  EXPECT_THAT(problem(R"({"aio": {"queue_dept": 8}})"), HasSubstr("did you mean 'queue_depth'?"));
  EXPECT_THAT(problem(R"({"aoi": {"queue_depth": 8}})"),
              HasSubstr("aoi: unknown key, did you mean 'aio'?"));
  EXPECT_THAT(problem(R"({"zero_optimisation": {"stage": 3}})"),
              HasSubstr("did you mean 'zero_optimization'?"));
  EXPECT_THAT(problem(R"({"queue_depth": 8})"), HasSubstr("did you mean 'aio.queue_depth'?"));
  EXPECT_EQ(problem(R"({"xyzzy_plugh": 8})"), "xyzzy_plugh: unknown key (line 1, column 2)");
}

TEST_F(ConfigTest, AllProblemsAreReportedAtOnce) {
  const std::string all = problem(R"({
    "aoi": 1,
    "train_batch_size": "many",
    "fp16": {"enabled": true},
    "optimizer": {"type": "Lamb", "params": {"max_coeff": 10}}})");
  EXPECT_EQ(std::count(all.begin(), all.end(), '\n'), 3) << all;
  EXPECT_THAT(all, AllOf(HasSubstr("aoi: unknown key"), HasSubstr("train_batch_size: a whole"),
                         HasSubstr("fp16.enabled: true would change results and is not built"),
                         HasSubstr("optimizer.type: Lamb would change results")));
}

TEST_F(ConfigTest, WrongTypeNamesItsPlace) {
  EXPECT_EQ(problem("{\n \"aio\": {\n  \"queue_depth\": \"deep\"}}"),
            "aio.queue_depth: a whole number is expected, found \"deep\" (line 3, column 3)");
  EXPECT_THAT(problem(R"({"bf16": {"enabled": 1}})"), HasSubstr("true or false is expected"));
  EXPECT_THAT(problem(R"({"bf16": true})"), HasSubstr("a section {...} is expected, found true"));
  EXPECT_THAT(problem(R"({"seed": "auto"})"), HasSubstr("a whole number is expected"));
  EXPECT_THAT(problem(R"({"gradient_clipping": [1]})"), HasSubstr("a number is expected"));
  EXPECT_THAT(problem(R"({"optimizer": {"params": {"betas": [0.9]}}})"),
              HasSubstr("a list of two numbers is expected"));
}

TEST_F(ConfigTest, NumbersMayBeWrittenAsPowersOfTen) {
  EXPECT_EQ(config(R"({"zero_optimization": {"sub_group_size": 5e8}})").sub_group_size,
            500'000'000u);
  EXPECT_THAT(problem(R"({"zero_optimization": {"sub_group_size": 1.5}})"),
              HasSubstr("a whole number is expected, found 1.5"));
}

TEST_F(ConfigTest, NumbersHaveRanges) {
  EXPECT_THAT(problem(R"({"train_batch_size": 0})"), HasSubstr("0 is below 1"));
  EXPECT_THAT(problem(R"({"train_batch_size": -4})"), HasSubstr("-4 is below 1"));
  EXPECT_THAT(problem(R"({"gradient_clipping": -1})"), HasSubstr("-1 is below 0"));
  EXPECT_THAT(problem(R"({"optimizer": {"params": {"betas": [0.9, 1.0]}}})"),
              HasSubstr("1 is not in [0, 1)"));
  EXPECT_THAT(problem(R"({"aio": {"queue_depth": 5000}})"), HasSubstr("5000 is not in [1, 4096]"));
}

TEST_F(ConfigTest, BlockSizeIsWholePages) {
  EXPECT_THAT(problem(R"({"aio": {"block_size": 5000}})"),
              HasSubstr("aio.block_size: 5000 is not a multiple of 4096"));
  EXPECT_THAT(problem(R"({"aio": {"block_size": 1000}})"),
              HasSubstr("aio.block_size: 1000 is not a multiple of 4096"));
  EXPECT_EQ(config(R"({"aio": {"block_size": 4096}})").aio.block_size_bytes, 4096u);
}

TEST_F(ConfigTest, ThreadCountHasThreeSpellings) {
  for (const char* name : {"intra_op_parallelism", "thread_count", "num_threads"}) {
    const std::string json = nested(std::string("aio.") + name, "4");
    EXPECT_EQ(config(json).aio.thread_count, 4u) << name;
  }
  EXPECT_EQ(report(R"({"aio": {"intra_op_parallelism": 4}})", "aio.intra_op_parallelism"),
            "used: ");
  EXPECT_EQ(report(R"({"aio": {"num_threads": 4}})", "aio.num_threads"),
            "deprecated: use aio.intra_op_parallelism");
  EXPECT_EQ(config(R"({"aio": {"num_threads": 4, "thread_count": 4}})").aio.thread_count, 4u);
  EXPECT_THAT(problem(R"({"aio": {"num_threads": 4, "thread_count": 2}})"),
              HasSubstr("aio.thread_count: 2 contradicts aio.num_threads: 4"));
}

TEST_F(ConfigTest, BooleansAsStringsAreAcceptedWithAWarning) {
  const std::string json = R"({"aio": {"single_submit": "true", "overlap_events": "false"}})";
  EXPECT_TRUE(config(json).aio.single_submit);
  EXPECT_EQ(report(json, "aio.single_submit"), "deprecated: write true without quotes");
  EXPECT_THAT(report(json, "aio.overlap_events"), HasSubstr("write false without quotes"));
  EXPECT_THAT(problem(R"({"aio": {"single_submit": "yes"}})"), HasSubstr("true or false"));
}

TEST_F(ConfigTest, StageThreeKeysAlsoWithoutThePrefix) {
  for (const char* name :
       {"prefetch_bucket_size", "param_persistence_threshold", "model_persistence_threshold",
        "max_live_parameters", "max_reuse_distance"}) {
    const std::string key = std::string("zero_optimization.") + name;
    EXPECT_THAT(report(nested(key, "100"), key), HasSubstr("no effect: ")) << name;
  }
}

TEST_F(ConfigTest, DeprecatedSpellingsAreMapped) {
  const Config offloaded = config(R"({"zero_optimization": {"cpu_offload": true,
      "cpu_offload_param": true, "cpu_offload_use_pin_memory": false,
      "stage3_gather_fp16_weights_on_model_save": true}})");
  EXPECT_EQ(offloaded.offload_optimizer.device, OffloadDevice::kCpu);
  EXPECT_EQ(offloaded.offload_param.device, OffloadDevice::kCpu);
  EXPECT_EQ(offloaded.offload_param.pin_memory, false);
  EXPECT_EQ(offloaded.offload_optimizer.pin_memory, false);
  EXPECT_THAT(
      report(R"({"zero_optimization": {"cpu_offload": true}})", "zero_optimization.cpu_offload"),
      HasSubstr("deprecated: use zero_optimization.offload_optimizer.device"));
  EXPECT_THAT(
      report(R"({"zero_optimization": {"stage3_gather_fp16_weights_on_model_save": true}})",
             "zero_optimization.stage3_gather_fp16_weights_on_model_save"),
      HasSubstr("deprecated: use zero_optimization.stage3_gather_16bit_weights_on_model_save"));
}

TEST_F(ConfigTest, NvmeNeedsAPath) {
  EXPECT_THAT(problem(R"({"zero_optimization": {"offload_param": {"device": "nvme"}}})"),
              HasSubstr("zero_optimization.offload_param.nvme_path: missing"));
  EXPECT_THAT(problem(R"({"zero_optimization": {"offload_optimizer": {"device": "nvme"}}})"),
              HasSubstr("zero_optimization.offload_optimizer.nvme_path: missing"));
  EXPECT_EQ(report(R"({"zero_optimization": {"offload_param": {"device": "cpu",
                       "nvme_path": "/x"}}})",
                   "zero_optimization.offload_param.nvme_path"),
            "no effect: device is cpu");
  EXPECT_THAT(problem(R"({"zero_optimization": {"offload_param": {"device": "nvm"}}})"),
              HasSubstr("'nvm' is none of none cpu nvme, did you mean 'nvme'?"));
}

TEST_F(ConfigTest, RefusesWhatWouldChangeResults) {
  const std::pair<const char*, const char*> refused[] = {
      {"fp16.enabled", "true"},
      {"prescale_gradients", "true"},
      {"gradient_predivide_factor", "2.0"},
      {"communication_data_type", "\"fp16\""},
      {"zero_optimization.offload_optimizer.ratio", "0.5"},
      {"zero_optimization.zero_quantized_weights", "true"},
      {"zero_optimization.zero_quantized_gradients", "true"},
      {"zero_optimization.zero_quantized_nontrainable_weights", "true"},
      {"optimizer.params.amsgrad", "true"},
      {"optimizer.params.bias_correction", "false"},
      {"optimizer.type", "\"Lamb\""},
      {"optimizer.type", "\"OneBitAdam\""},
      {"scheduler.type", "\"OneCycle\""},
      {"scheduler.type", "\"LRRangeTest\""},
      {"checkpoint.load_universal", "true"},
  };
  for (const auto& [key, value] : refused) {
    EXPECT_THAT(problem(nested(key, value)),
                AllOf(HasSubstr(std::string(key) + ": "),
                      HasSubstr("would change results and is not built")));
  }
}

TEST_F(ConfigTest, CommunicationDtypeMustBeTheTrainingDtype) {
  EXPECT_EQ(problem(R"({"communication_data_type": "fp32"})"), "accepted");
  EXPECT_EQ(problem(R"({"communication_data_type": "bf16", "bf16": {"enabled": true}})"),
            "accepted");
  EXPECT_THAT(problem(R"({"communication_data_type": "fp32", "bf16": {"enabled": true}})"),
              HasSubstr("\"fp32\" with training in bf16"));
}

TEST_F(ConfigTest, LowerStagesOnlyOnOneRank) {
  const std::string stage2 = R"({"zero_optimization": {"stage": 2}})";
  EXPECT_EQ(report(stage2, "zero_optimization.stage"),
            "no effect: one rank holds all states at any stage");
  EXPECT_THAT(problem(stage2, {.world_size = 2}), HasSubstr("2 on 2 ranks is not built"));
  EXPECT_EQ(problem(R"({"zero_optimization": {"stage": 3}})", {.world_size = 2}), "accepted");
  EXPECT_THAT(problem(R"({"zero_optimization": {"stage": 4}})"), HasSubstr("4 is not in [0, 3]"));
}

TEST_F(ConfigTest, AutoIsReportedAsResolved) {
  const std::string json = R"({"train_batch_size": "auto", "train_micro_batch_size_per_gpu": 2,
    "gradient_accumulation_steps": "auto", "gradient_clipping": "auto",
    "fp16": {"enabled": "auto"}, "bf16": {"enabled": "auto"},
    "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto",
                                              "weight_decay": "auto"}},
    "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_min_lr": "auto",
      "warmup_max_lr": "auto", "warmup_num_steps": "auto", "total_num_steps": "auto"}}})";
  const ConfigInput input{.world_size = 3, .total_steps = 77};
  const Result<ConfigResult> result = load(json, input);
  ASSERT_TRUE(result) << result.error().detail;
  std::string notes;
  for (const KeyReport& key : result->keys) {
    if (key.fate == KeyFate::kResolved) notes += key.key + " " + key.note + "\n";
  }
  EXPECT_THAT(notes, AllOf(HasSubstr("train_batch_size auto -> 6\n"),
                           HasSubstr("gradient_accumulation_steps auto -> 1\n"),
                           HasSubstr("gradient_clipping auto -> 1\n"),
                           HasSubstr("bf16.enabled auto -> false\n"),
                           HasSubstr("optimizer.params.lr auto -> 0.001\n"),
                           HasSubstr("optimizer.params.betas auto -> [0.9, 0.999]\n"),
                           HasSubstr("optimizer.params.weight_decay auto -> 0.01\n"),
                           HasSubstr("scheduler.params.warmup_max_lr auto -> 0.001\n"),
                           HasSubstr("scheduler.params.total_num_steps auto -> 77\n")));
  EXPECT_EQ(result->config.scheduler.total_num_steps, 77u);
}

}  // namespace
}  // namespace spillway::trainer
