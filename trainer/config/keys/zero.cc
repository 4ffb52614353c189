// Keys that steer something here: batch, precision, offload, aio.
#include "trainer/config/key_table.h"

namespace spillway::trainer {
namespace {

using Draft = ConfigDraft;
using Value = KeyValue;

constexpr auto kInteger = ValueType::kInteger;
constexpr auto kNumber = ValueType::kNumber;
constexpr auto kString = ValueType::kString;

OffloadDevice device_named(const std::string& name) {
  if (name == "cpu") return OffloadDevice::kCpu;
  return name == "nvme" ? OffloadDevice::kNvme : OffloadDevice::kNone;
}

const std::string kWhatIsFree = "what of the RAM is safely free";

UpdateOrder update_order_named(const std::string& name) {
  if (name == "backward") return UpdateOrder::kBackward;
  return name == "forward" ? UpdateOrder::kForward : UpdateOrder::kAfterBackward;
}

std::vector<KeyRule> batch_keys() {
  return {
      {.path = "train_batch_size",
       .type = kInteger,
       .standard = "1",
       .note = "= train_micro_batch_size_per_gpu x gradient_accumulation_steps x ranks",
       .may_be_auto = true,
       .minimum = 1,
       .apply = [](Draft& d, const Value& v) { d.train_batch_size = v.integer; },
       .resolved = [](const Draft& d) { return std::to_string(d.config.train_batch_size); }},
      {.path = "train_micro_batch_size_per_gpu",
       .type = kInteger,
       .standard = "1",
       .may_be_auto = true,
       .minimum = 1,
       .apply = [](Draft& d, const Value& v) { d.micro_batch_size = v.integer; },
       .resolved = [](const Draft& d) { return std::to_string(d.config.micro_batch_size); }},
      {.path = "gradient_accumulation_steps",
       .type = kInteger,
       .standard = "1",
       .may_be_auto = true,
       .minimum = 1,
       .apply = [](Draft& d, const Value& v) { d.accumulation_steps = v.integer; },
       .resolved =
           [](const Draft& d) { return std::to_string(d.config.gradient_accumulation_steps); }},
  };
}

std::vector<KeyRule> run_keys() {
  return {
      {.path = "seed",
       .type = kInteger,
       .standard = "42",
       .note = "source of all randomness; not a DeepSpeed key",
       .apply = [](Draft& d, const Value& v) { d.config.seed = v.integer; }},
      {.path = "steps_per_print",
       .type = kInteger,
       .standard = "1",
       .may_be_null = true,
       .minimum = 1,
       .apply = [](Draft& d, const Value& v) { d.config.steps_per_print = v.integer; }},
      {.path = "gradient_clipping",
       .type = kNumber,
       .standard = "1.0",
       .note = "global norm; 0 = off",
       .may_be_auto = true,
       .apply = [](Draft& d, const Value& v) { d.config.gradient_clipping = v.number; },
       .resolved = [](const Draft& d) { return number_text(d.config.gradient_clipping); }},
      {.path = "bf16.enabled",
       .standard = "false",
       .note = "bf16 weights with exact fp32 masters; else fp32",
       .may_be_auto = true,
       .apply = [](Draft& d,
                   const Value& v) { d.config.dtype = v.boolean ? Dtype::kBf16 : Dtype::kFp32; },
       .resolved =
           [](const Draft& d) {
             return std::string(d.config.dtype == Dtype::kBf16 ? "true" : "false");
           }},
      {.path = "communication_data_type",
       .type = kString,
       .standard = "null",
       .note = "must be the training dtype",
       .may_be_null = true,
       .choices = {"fp32", "fp16", "bf16", "bfp16"},
       .apply = [](Draft& d, const Value& v) { d.communication_data_type = v.text; }},
  };
}

std::vector<KeyRule> zero_keys() {
  return {
      {.path = "zero_optimization.stage",
       .type = kInteger,
       .standard = "3",
       .note = "states partitioned over the ranks",
       .maximum = 3,
       .apply = [](Draft& d, const Value& v) { d.stage = static_cast<std::uint32_t>(v.integer); }},
      {.path = "zero_optimization.sub_group_size",
       .type = kInteger,
       .standard = "1000000000",
       .note = "elements; an upper bound of a tile's size",
       .minimum = 1,
       .apply = [](Draft& d, const Value& v) { d.config.sub_group_size = v.integer; }},
      {.path = "zero_optimization.offload_param.device",
       .type = kString,
       .standard = "\"none\"",
       .choices = {"none", "cpu", "nvme"},
       .apply = [](Draft& d, const Value& v) { d.param_device = device_named(v.text); }},
      {.path = "zero_optimization.offload_param.nvme_path",
       .type = kString,
       .standard = "null",
       .note = "directory for swap files; required with device nvme",
       .may_be_null = true,
       .apply = [](Draft& d, const Value& v) { d.config.offload_param.nvme_path = v.text; }},
      {.path = "zero_optimization.offload_param.max_in_cpu",
       .type = kInteger,
       .standard = "\"auto\"",
       .note = "elements cached in RAM; auto: what is free; DeepSpeed's default is 1e9",
       .may_be_auto = true,
       .apply = [](Draft& d,
                   const Value& v) { d.config.offload_param.max_in_cpu_elements = v.integer; },
       .resolved = [](const Draft&) { return kWhatIsFree; }},
      {.path = "zero_optimization.offload_param.pin_memory",
       .standard = "null",
       .note = "absent: pinned when the limits allow it",
       .may_be_null = true,
       .apply = [](Draft& d, const Value& v) { d.config.offload_param.pin_memory = v.boolean; }},
  };
}

std::vector<KeyRule> offload_optimizer_keys() {
  return {
      {.path = "zero_optimization.offload_optimizer.device",
       .type = kString,
       .standard = "\"none\"",
       .choices = {"none", "cpu", "nvme"},
       .apply = [](Draft& d, const Value& v) { d.optimizer_device = device_named(v.text); }},
      {.path = "zero_optimization.offload_optimizer.nvme_path",
       .type = kString,
       .standard = "null",
       .note = "directory for swap files; required with device nvme",
       .may_be_null = true,
       .apply = [](Draft& d, const Value& v) { d.config.offload_optimizer.nvme_path = v.text; }},
      {.path = "zero_optimization.offload_optimizer.max_in_cpu",
       .type = kInteger,
       .standard = "\"auto\"",
       .note = "elements cached in RAM; auto: what is free; not a DeepSpeed key",
       .may_be_auto = true,
       .apply = [](Draft& d,
                   const Value& v) { d.config.offload_optimizer.max_in_cpu_elements = v.integer; },
       .resolved = [](const Draft&) { return kWhatIsFree; }},
      {.path = "zero_optimization.offload_optimizer.update_order",
       .type = kString,
       .standard = "\"auto\"",
       .note = "when tiles are updated, the same bits; backward takes twice the space on NVMe, "
               "and auto takes four times as enough for it; not a DeepSpeed key",
       .may_be_auto = true,
       .choices = {"after_backward", "forward", "backward"},
       .apply = [](Draft& d,
                   const Value& v) { d.config.update_order = update_order_named(v.text); },
       .resolved =
           [](const Draft& d) { return std::string(to_string(resolved_update_order(d.config))); }},
      {.path = "zero_optimization.offload_optimizer.pin_memory",
       .standard = "null",
       .note = "absent: pinned when the limits allow it",
       .may_be_null = true,
       .apply = [](Draft& d,
                   const Value& v) { d.config.offload_optimizer.pin_memory = v.boolean; }},
  };
}

std::vector<KeyRule> deprecated_zero_keys() {
  return {
      {.path = "zero_optimization.cpu_offload",
       .note = "use zero_optimization.offload_optimizer.device",
       .deprecated = true,
       .may_be_null = true,
       .apply = [](Draft& d, const Value& v) { d.cpu_offload_optimizer = v.boolean; }},
      {.path = "zero_optimization.cpu_offload_param",
       .note = "use zero_optimization.offload_param.device",
       .deprecated = true,
       .may_be_null = true,
       .apply = [](Draft& d, const Value& v) { d.cpu_offload_param = v.boolean; }},
      {.path = "zero_optimization.cpu_offload_use_pin_memory",
       .note = "use pin_memory in offload_param and offload_optimizer",
       .deprecated = true,
       .may_be_null = true,
       .apply = [](Draft& d, const Value& v) { d.cpu_offload_pin_memory = v.boolean; }},
  };
}

std::vector<KeyRule> aio_keys() {
  return {
      {.path = "aio.block_size",
       .type = kInteger,
       .standard = "1048576",
       .note = "bytes; O_DIRECT moves whole pages of 4096",
       .minimum = 4096,
       .maximum = 1 << 30,
       .multiple_of = 4096,
       .apply =
           [](Draft& d, const Value& v) {
             d.config.aio.block_size_bytes = static_cast<std::uint32_t>(v.integer);
           }},
      {.path = "aio.queue_depth",
       .type = kInteger,
       .standard = "32",
       .note = "operations in flight per thread",
       .minimum = 1,
       .maximum = 4096,
       .apply =
           [](Draft& d, const Value& v) {
             d.config.aio.queue_depth = static_cast<std::uint32_t>(v.integer);
           }},
      {.path = "aio.intra_op_parallelism",
       .type = kInteger,
       .standard = "1",
       .note = "I/O threads, one ring each",
       .minimum = 1,
       .maximum = 64,
       .apply =
           [](Draft& d, const Value& v) {
             d.config.aio.thread_count = static_cast<std::uint32_t>(v.integer);
           }},
      {.path = "aio.single_submit",
       .note = "one system call per operation",
       .apply = [](Draft& d, const Value& v) { d.config.aio.single_submit = v.boolean; }},
      {.path = "aio.backend",
       .type = kString,
       .standard = "\"auto\"",
       .note = "not a DeepSpeed key",
       .choices = {"auto", "io_uring", "threads"},
       .apply =
           [](Draft& d, const Value& v) {
             d.config.aio.backend = v.text == "io_uring"  ? aio::BackendKind::kIoUring
                                    : v.text == "threads" ? aio::BackendKind::kThreadPool
                                                          : aio::BackendKind::kAuto;
           }},
  };
}

// What aio_bench found on the drive that it tuned the block for.
std::vector<KeyRule> tuned_keys() {
  const auto text = [](const char* name, void (*apply)(Draft&, const Value&)) {
    return KeyRule{.path = std::string("aio.tuned.") + name,
                   .type = kString,
                   .standard = "null",
                   .note = "written by aio_bench; not a DeepSpeed key",
                   .may_be_null = true,
                   .apply = apply};
  };
  const auto speed = [](const char* name, void (*apply)(Draft&, const Value&)) {
    return KeyRule{.path = std::string("aio.tuned.") + name,
                   .type = kNumber,
                   .standard = "null",
                   .note = "written by aio_bench; not a DeepSpeed key",
                   .may_be_null = true,
                   .apply = apply};
  };
  return {
      text("device", [](Draft& d, const Value& v) { d.config.tuned.device = v.text; }),
      text("filesystem", [](Draft& d, const Value& v) { d.config.tuned.filesystem = v.text; }),
      speed("read_gb_per_second",
            [](Draft& d, const Value& v) { d.config.tuned.read_gb_per_second = v.number; }),
      speed("write_gb_per_second",
            [](Draft& d, const Value& v) { d.config.tuned.write_gb_per_second = v.number; }),
      speed("mix_gb_per_second",
            [](Draft& d, const Value& v) { d.config.tuned.mix_gb_per_second = v.number; }),
  };
}

}  // namespace

std::vector<KeyRule> used_keys() {
  std::vector<KeyRule> rules;
  for (auto part : {batch_keys(), run_keys(), zero_keys(), offload_optimizer_keys(),
                    deprecated_zero_keys(), aio_keys(), tuned_keys()}) {
    rules.insert(rules.end(), part.begin(), part.end());
  }
  return rules;
}

}  // namespace spillway::trainer
