// Config: DeepSpeed's JSON configuration, read, checked and resolved.
//
// Every problem is found before anything runs and all are reported at once: unknown keys with the
// nearest right name, wrong types with line and column, values out of range, keys that would
// change results and are not built. Every key that is present is reported as used, resolved from
// "auto", deprecated, or without effect here. Numbers may be written 5e8. No I/O beyond reading the
// file.
#pragma once

#include <spillway/aio/engine.h>
#include <spillway/aio/error.h>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>
#include "trainer/config/backward_config.h"
#include "trainer/config/update_order.h"
#include "trainer/kernels/optimizer_format.h"

namespace spillway::trainer {

struct OffloadConfig {
  OffloadDevice device = OffloadDevice::kNone;
  std::filesystem::path nvme_path;  // required when device is nvme
  // Cached in RAM; 0 = nothing; kAutoCache (what "auto" and no key at all say) = what is safely
  // free.
  static constexpr std::uint64_t kAutoCache = ~std::uint64_t{0};
  std::uint64_t max_in_cpu_elements = 0;
  std::optional<bool> pin_memory;  // unset: pin when the limits allow it
};

// Defaults are AdamW's; load_config fills in those of the type it finds.
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

// What aio_bench measured when it tuned the "aio" block; empty and 0 where it did not.
struct TunedDrive {
  std::string device;  // as aio_bench names it; several joined by " + "
  std::string filesystem;
  double read_gb_per_second = 0;
  double write_gb_per_second = 0;
  double mix_gb_per_second = 0;  // of both directions together, as many bytes each way

  // The seconds that so many bytes take at the measured speeds, as much of it as can be as a mix;
  // 0 when a speed that is needed was not measured.
  double seconds_for(std::uint64_t read_bytes, std::uint64_t written_bytes) const;
};

struct Config {
  std::uint64_t train_batch_size =
      0;  // samples per step, all ranks; = micro x accumulation x world
  std::uint64_t micro_batch_size = 0;
  std::uint64_t gradient_accumulation_steps = 0;
  Dtype dtype = Dtype::kFp32;
  double gradient_clipping = 1.0;  // 0 = off
  std::uint32_t zero_stage = 3;
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

// What kAuto stands for, if the drive has room for it (generation_room.h): see UpdateOrder.
UpdateOrder resolved_update_order(const Config& config);
// Whether tiles on NVMe have room for two generations, so that an update during backward can be
// taken back.
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
  std::vector<KeyReport> keys;  // one for every key present, in the file's order
};

// kInvalid with all problems in Error::detail, one per line ("key: what is wrong"), or kNotFound.
Result<ConfigResult> load_config(const ConfigInput& input);

enum class KeyClass {
  kUsed,
  kNoEffect,  // accepted; `note` says why it changes nothing here
  kRefused,   // any value but `standard` would change results and is not built
};

// The reference of all keys, in the order of the table.
struct KnownKey {
  std::string key;
  KeyClass key_class = KeyClass::kUsed;
  std::string standard;  // the default, as JSON
  std::string note;
};
std::vector<KnownKey> known_keys();

// Learning rate of a step (counted from 1), all in double. With i = step - 1, the batch's index,
// and W = max(2, warmup_num_steps), DeepSpeed's schedules:
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
