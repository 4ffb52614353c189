// Config: reads, checks and resolves DeepSpeed's JSON configuration (docs/configuration.md).
//
// Finds every problem before anything runs and reports all at once: unknown keys with the nearest
// right name, wrong types with line and column, values out of range, keys that would change results
// and are not built. Reports every present key as used, resolved from "auto", deprecated, or
// without effect here. Numbers may be written 5e8. No I/O except reading the file.
#pragma once

#include <spillway/aio/engine.h>
#include <spillway/aio/error.h>
#include <spillway/trainer/config_types.h>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace spillway::trainer {

struct OffloadConfig {
  OffloadDevice device = OffloadDevice::kNone;
  std::filesystem::path nvme_path;  // required when device is nvme
  // Elements cached in RAM. 0 = none; kAutoCache ("auto", and the default of load_config) = as many
  // as fit safely.
  static constexpr std::uint64_t kAutoCache = ~std::uint64_t{0};
  std::uint64_t max_in_cpu_elements = 0;
  std::optional<bool> pin_memory;  // unset: pin when the limits allow it
};

// The defaults are AdamW's; load_config fills in those of the configured type.
struct OptimizerConfig {
  OptimizerKind kind = OptimizerKind::kAdamW;
  StateDtype state_dtype = StateDtype::kFp32;  // our key: optimizer.params.state_dtype
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  bool decay_biases_and_norms = false;  // our key: optimizer.params.decay_biases_and_norms
};

enum class ScheduleKind { kConstant, kWarmup, kWarmupDecay, kWarmupCosine };

struct SchedulerConfig {
  ScheduleKind kind = ScheduleKind::kConstant;
  double warmup_min_lr = 0.0;
  double warmup_max_lr = 1e-3;  // WarmupLR, WarmupDecayLR; Cosine scales optimizer.params.lr
  std::uint64_t warmup_num_steps = 1000;
  bool warmup_log = true;             // warmup_type "log" (DeepSpeed's default), else "linear"
  std::uint64_t total_num_steps = 0;  // required for decay and cosine ("auto": the run's steps)
  double warmup_min_ratio = 0.0;      // WarmupCosineLR
  double cos_min_ratio = 1e-4;
};

// Results of aio_bench, which wrote them when it tuned the "aio" block. Empty or 0: not measured.
struct TunedDrive {
  std::string device;  // as aio_bench names it; several are joined by " + "
  std::string filesystem;
  double read_gb_per_second = 0;
  double write_gb_per_second = 0;
  double mix_gb_per_second = 0;  // sum of both directions, with equal bytes each way
  double spread = 0;             // of the passes, as a share: a run may differ by so much

  // Returns the seconds for these bytes at the measured speeds, with reads and writes mixed as far
  // as possible. 0 if a speed it needs was not measured.
  double seconds_for(std::uint64_t read_bytes, std::uint64_t written_bytes) const;
};

struct Config {
  std::uint64_t train_batch_size = 0;  // samples per step: micro x accumulation x ranks
  std::uint64_t micro_batch_size = 0;
  std::uint64_t gradient_accumulation_steps = 0;
  Dtype dtype = Dtype::kFp32;
  double gradient_clipping = 1.0;                // 0 = off
  std::uint64_t sub_group_size = 1'000'000'000;  // elements; an upper bound of a tile's size
  OffloadConfig offload_param;
  OffloadConfig offload_optimizer;
  UpdateOrder update_order = UpdateOrder::kAuto;
  GradientConfig gradients;
  ActivationConfig activations;
  OptimizerConfig optimizer;
  SchedulerConfig scheduler;
  aio::EngineOptions aio;
  TunedDrive tuned;
  std::uint64_t steps_per_print = 1;
  std::uint64_t seed = 42;
};

// Resolves kAuto: kBackward if weights and optimizer states are on NVMe and gradients are not;
// kForward if any other of the three is on NVMe; kAfterBackward if none is, as there is no I/O to
// hide. Does not check that the drive has room for kBackward (generation_room.h does).
UpdateOrder resolved_update_order(const Config& config);
// True if tiles on NVMe need room for two generations, so that an update during backward can be
// rolled back.
bool keeps_generations(const Config& config);

enum class KeyFate { kUsed, kResolved, kDeprecated, kNoEffect };

struct KeyReport {
  std::string key;  // dotted: "zero_optimization.offload_param.device"
  KeyFate fate = KeyFate::kUsed;
  std::string note;  // "auto -> 8", "use stage3_... instead", "why it has no effect here"
};

struct ConfigInput {
  std::filesystem::path file = {};          // empty: an empty object
  std::vector<std::string> overrides = {};  // "a.b.c=value", applied in order after the file
  std::uint32_t world_size = 1;
  std::uint64_t total_steps = 0;  // of the run, for "auto" in the scheduler; 0 = unknown
  std::uint32_t hidden_size = 0;  // of the model, for "auto" bucket sizes; 0 = unknown
};

struct ConfigResult {
  Config config;
  std::vector<KeyReport> keys;  // one for every present key, in the file's order
};

// Errors: kInvalid with all problems in Error::detail, one per line ("key: problem"); or the error
// of reading the file, such as kNotFound. Blocks while the file is read.
Result<ConfigResult> load_config(const ConfigInput& input);

enum class KeyClass {
  kUsed,
  kNoEffect,  // accepted; `note` says why it changes nothing here
  kRefused,   // only `standard` is accepted: other values would change results and are not built
};

// One row of the key table.
struct KnownKey {
  std::string key;
  KeyClass key_class = KeyClass::kUsed;
  std::string standard;  // the default, as JSON
  std::string note;
};
// Returns every key that a configuration may have, in the order of the table.
std::vector<KnownKey> known_keys();

// Returns the learning rate of `step` (counted from 1), computed in double. DeepSpeed's schedules,
// with i = step - 1, W = max(2, warmup_num_steps) and T = total_num_steps:
//   warmup(i)      = log(i + 1) / log(W) or, linear, i / W, for i < W
//   WarmupLR       = min_lr + (max_lr - min_lr) warmup(i), then max_lr
//   WarmupDecayLR  = the same, then min_lr + (max_lr - min_lr) max(0, (T - i) / max(1, T - W))
//   WarmupCosineLR = lr (r + (1 - r) warmup(i)), r = warmup_min_ratio, then
//                    lr (c + (1 - c) (1 + cos(pi min(1, (i - W + 1) / max(1, T - W)))) / 2),
//                    c = cos_min_ratio
// DeepSpeed's engine sets the rate after a step, so its step s + 1 has the rate of our step s (and
// its step 1 the lowest one).
double learning_rate_at(const Config& config, std::uint64_t step);

}  // namespace spillway::trainer
