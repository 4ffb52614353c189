// Keys that steer nothing here: accepted with the reason, or refused at any value that would give
// other results.
#include "trainer/config/key_table.h"

namespace spillway::trainer {
namespace {

using enum ValueType;

KeyRule refused(const std::string& path, ValueType type, const std::string& harmless,
                const std::string& what) {
  KeyRule rule = no_effect(path, type, harmless, what);
  rule.key_class = KeyClass::kRefused;
  return rule;
}

// A size whose "auto" is tenths / 10 x hidden_size, or x hidden_size^2 (Hugging Face's rule).
KeyRule bucket(const std::string& path, const std::string& standard, const std::string& why,
               std::uint64_t tenths, bool squared) {
  KeyRule rule = no_effect(path, kInteger, standard, why);
  rule.may_be_auto = true;
  rule.resolved = [=](const Draft& draft) {
    const std::uint64_t hidden = draft.input->hidden_size;
    if (hidden != 0) return std::to_string(tenths * hidden * (squared ? hidden : 1) / 10);
    const std::string factor =
        tenths == 10 ? "" : number_text(static_cast<double>(tenths) / 10) + " x ";
    return factor + (squared ? "hidden_size^2" : "hidden_size");
  };
  return rule;
}

// A key that may also be written without "stage3_".
KeyRule stage3(const std::string& name, KeyRule rule) {
  rule.path = "zero_optimization.stage3_" + name;
  rule.other_names = {"zero_optimization." + name};
  return rule;
}

std::vector<KeyRule> top_keys() {
  return {
      refused("prescale_gradients", kBool, "false", "gradients are averaged after they are summed"),
      refused("gradient_predivide_factor", kNumber, "1.0",
              "gradients are averaged after they are summed"),
      no_effect("wall_clock_breakdown", kBool, "false", "the step line and --metrics tell times"),
      no_effect("memory_breakdown", kBool, "false", "--memory-report tells it"),
      no_effect("dump_state", kBool, "false", "every key is reported anyway"),
      no_effect("zero_allow_untested_optimizer", kBool, "false", "optimizers are named by type"),
      no_effect("zero_force_ds_cpu_optimizer", kBool, "true", "there is one CPU Adam"),
      no_effect("dataloader_drop_last", kBool, "false", "samples are drawn, no batch is the last"),
  };
}

std::vector<KeyRule> precision_keys() {
  const std::string off = "fp16 is not enabled";
  KeyRule fp16 = refused("fp16.enabled", kBool, "false", "use bf16");
  fp16.may_be_auto = true;
  fp16.resolved = [](const Draft&) { return "false"; };
  return {
      fp16,
      no_effect("fp16.auto_cast", kBool, "false", off),
      no_effect("fp16.loss_scale", kNumber, "0", off),
      no_effect("fp16.initial_scale_power", kInteger, "16", off),
      no_effect("fp16.loss_scale_window", kInteger, "1000", off),
      no_effect("fp16.hysteresis", kInteger, "2", off),
      no_effect("fp16.consecutive_hysteresis", kBool, "false", off),
      no_effect("fp16.min_loss_scale", kNumber, "1", off),
      no_effect("bf16.immediate_grad_update", kBool, "false",
                "a unit's gradients are summed as soon as its backward yields them"),
      no_effect("bf16.check_grad_overflow", kBool, "true",
                "a gradient that is not finite ends the run; no step is skipped"),
  };
}

std::vector<KeyRule> adam_extras() {
  return {
      no_effect("optimizer.params.torch_adam", kBool, "false", "there is one Adam"),
      no_effect("optimizer.params.fused", kBool, "true", "always one pass"),
      refused("optimizer.params.amsgrad", kBool, "false", "AMSGrad"),
      refused("optimizer.params.bias_correction", kBool, "true", "Adam without bias correction"),
      no_effect("optimizer.legacy_fusion", kBool, "false", "always one pass"),
      refused("scheduler.params.last_batch_iteration", kInteger, "-1",
              "the rate follows the step number"),
  };
}

std::vector<KeyRule> other_zero_keys() {
  const std::string zero = "zero_optimization.";
  const std::string unit = "a unit's gradients and weights move as a whole";
  return {
      no_effect(zero + "contiguous_gradients", kBool, "true", unit),
      no_effect(zero + "reduce_scatter", kBool, "true", unit),
      bucket(zero + "reduce_bucket_size", "500000000", unit, 10, true),
      no_effect(zero + "allgather_partitions", kBool, "true", unit),
      bucket(zero + "allgather_bucket_size", "500000000", unit, 10, true),
      no_effect(zero + "overlap_comm", kBool, "true", "the schedule decides what overlaps"),
      no_effect(zero + "round_robin_gradients", kBool, "false", unit),
      no_effect(zero + "ignore_unused_parameters", kBool, "true",
                "a parameter that was not used gets a zero gradient"),
      no_effect(zero + "memory_efficient_linear", kBool, "true", "backward recomputes the unit"),
      refused(zero + "offload_optimizer.ratio", kNumber, "1.0", "part of the update on the device"),
      no_effect(zero + "zero_hpz_partition_size", kInteger, "1", "one level of partitions"),
      refused(zero + "zero_quantized_weights", kBool, "false", "quantised weights"),
      refused(zero + "zero_quantized_gradients", kBool, "false", "quantised gradients"),
      refused(zero + "zero_quantized_nontrainable_weights", kBool, "false", "quantised weights"),
      no_effect(zero + "mics_shard_size", kInteger, "-1", "one level of partitions"),
      no_effect(zero + "mics_hierarchical_params_gather", kBool, "false",
                "one level of partitions"),
  };
}

std::vector<KeyRule> stage3_keys() {
  const std::string in_ram = "max_in_cpu says what stays in RAM";
  std::vector<KeyRule> rules{
      stage3("prefetch_bucket_size",
             bucket("", "50000000",
                    "the schedule is known: tiles are read ahead as far as the buffers reach", 9,
                    true)),
      stage3("param_persistence_threshold",
             bucket("", "100000", "small parameters belong to their unit; " + in_ram, 100, false)),
      stage3("model_persistence_threshold", no_effect("", kNumber, "9223372036854775807", in_ram)),
      stage3("max_live_parameters",
             no_effect("", kInteger, "1000000000", "one unit and what is read ahead are live")),
      stage3("max_reuse_distance",
             no_effect("", kInteger, "1000000000", "a unit is released after its use")),
      stage3("gather_16bit_weights_on_model_save",
             no_effect("", kBool, "false", "states are written rank by rank")),
  };
  rules.back().deprecated_names = {"zero_optimization.stage3_gather_fp16_weights_on_model_save",
                                   "zero_optimization.gather_fp16_weights_on_model_save"};
  return rules;
}

std::vector<KeyRule> offload_keys() {
  const std::string zero = "zero_optimization.";
  const std::string buffers = "buffers hold tiles of any parameter; their number follows the model";
  const std::string pipelined = "reading ahead and writing behind is always on";
  return {
      no_effect(zero + "offload_param.buffer_count", kInteger, "5", buffers),
      no_effect(zero + "offload_param.buffer_size", kInteger, "100000000", buffers),
      no_effect(zero + "offload_optimizer.buffer_count", kInteger, "4", buffers),
      no_effect(zero + "offload_optimizer.pipeline_read", kBool, "false", pipelined),
      no_effect(zero + "offload_optimizer.pipeline_write", kBool, "false", pipelined),
      no_effect(zero + "offload_optimizer.fast_init", kBool, "false",
                "states are always written once, unit by unit"),
      no_effect("aio.overlap_events", kBool, "true", "submission and completion always overlap"),
      no_effect("aio.use_gds", kBool, "false", "data passes through page-locked RAM"),
  };
}

std::vector<KeyRule> surrounding_keys() {
  const std::string metrics = "--metrics writes JSON lines";
  std::vector<KeyRule> rules{
      no_effect("checkpoint.tag_validation", kString, "\"WARN\"",
                "a checkpoint is named by its step, on all ranks"),
      refused("checkpoint.load_universal", kBool, "false", "loading universal checkpoints"),
      no_effect("checkpoint.use_node_local_storage", kBool, "false",
                "--checkpoint-dir names the one place of all ranks"),
  };
  for (const std::string section : {"tensorboard", "csv_monitor"}) {
    rules.push_back(no_effect(section + ".enabled", kBool, "false", metrics));
    rules.push_back(no_effect(section + ".output_path", kString, "null", metrics));
    rules.push_back(no_effect(section + ".job_name", kString, "null", metrics));
  }
  return rules;
}

}  // namespace

KeyRule no_effect(const std::string& path, ValueType type, const std::string& standard,
                  const std::string& why) {
  return {.path = path,
          .key_class = KeyClass::kNoEffect,
          .type = type,
          .standard = standard,
          .note = why,
          .may_be_null = true,
          .minimum = standard == "-1" ? -1.0 : 0.0};  // -1 stands for "none"
}

std::vector<KeyRule> unused_keys() {
  std::vector<KeyRule> rules;
  for (const auto& part : {top_keys(), precision_keys(), adam_extras(), other_zero_keys(),
                           stage3_keys(), offload_keys(), surrounding_keys()}) {
    rules.insert(rules.end(), part.begin(), part.end());
  }
  return rules;
}

}  // namespace spillway::trainer
