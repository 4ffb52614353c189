// The schedule of the learning rate.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "trainer/config/key_table.h"

namespace spillway::trainer {
namespace {

ScheduleKind kind_of(const std::string& type) {
  if (type == "WarmupLR") return ScheduleKind::kWarmup;
  if (type == "WarmupDecayLR") return ScheduleKind::kWarmupDecay;
  return type == "WarmupCosineLR" ? ScheduleKind::kWarmupCosine : ScheduleKind::kConstant;
}

bool has(const Draft& draft, ScheduleKind kind) { return draft.config.scheduler.kind == kind; }

std::string unless_scheduled(const Draft& draft) {
  return has(draft, ScheduleKind::kConstant) ? "there is no scheduler.type" : "";
}

template <typename T>
Field parameter(T SchedulerConfig::*of) {
  return member(&Config::scheduler, of);
}

double warmup_share(const SchedulerConfig& scheduler, double index, double warmup) {
  return scheduler.warmup_log ? std::log(index + 1) / std::log(warmup) : index / warmup;
}

}  // namespace

const TypeNames& scheduler_types() {
  static const TypeNames kTypes{.section = "scheduler",
                                .standard = "",
                                .built = {"WarmupLR", "WarmupDecayLR", "WarmupCosineLR"},
                                .unbuilt = {"OneCycle", "LRRangeTest"}};
  return kTypes;
}

std::vector<KeyRule> schedule_keys() {
  const auto learning_rate = [](Draft& d) {
    if (has(d, ScheduleKind::kConstant)) return;
    d.config.scheduler.warmup_max_lr = d.config.optimizer.learning_rate;
  };
  return {
      {.path = "scheduler.type",
       .type = ValueType::kString,
       .standard = "null",
       .note = "WarmupLR, WarmupDecayLR, WarmupCosineLR; absent: a constant rate",
       .may_be_null = true,
       .apply =
           [](Draft& d, const KeyValue&) {
             d.config.scheduler.kind = kind_of(scheduler_types().of(d));
           }},
      {.path = "scheduler.params.warmup_min_lr",
       .may_be_auto = true,
       .of_types = {"WarmupLR", "WarmupDecayLR"},
       .into = parameter(&SchedulerConfig::warmup_min_lr),
       .idle = unless_scheduled},
      {.path = "scheduler.params.warmup_max_lr",
       .standard = "null",
       .note = "absent: WarmupLR takes optimizer.params.lr, WarmupDecayLR 0.001; \"auto\": lr",
       .may_be_auto = true,
       .may_be_null = true,
       .of_types = {"WarmupLR", "WarmupDecayLR"},
       .into = parameter(&SchedulerConfig::warmup_max_lr),
       .when_absent =
           [=](Draft& d) {
             if (has(d, ScheduleKind::kWarmup)) learning_rate(d);
           },
       .when_auto = learning_rate,
       .idle = unless_scheduled},
      {.path = "scheduler.params.warmup_num_steps",
       .may_be_auto = true,
       .minimum = 1,
       .into = parameter(&SchedulerConfig::warmup_num_steps),
       .idle = unless_scheduled},
      {.path = "scheduler.params.warmup_type",
       .into = choice<bool>({{"log", true}, {"linear", false}}, &Config::scheduler,
                            &SchedulerConfig::warmup_log),
       .idle = unless_scheduled},
      {.path = "scheduler.params.total_num_steps",
       .standard = "null",
       .note = "required for WarmupDecayLR and WarmupCosineLR; \"auto\": the run's steps",
       .may_be_auto = true,
       .may_be_null = true,
       .minimum = 1,
       .of_types = {"WarmupDecayLR", "WarmupCosineLR"},
       .into = parameter(&SchedulerConfig::total_num_steps),
       .when_auto =
           [](Draft& d) {
             if (!has(d, ScheduleKind::kConstant)) {
               d.config.scheduler.total_num_steps = d.input->total_steps;
             }
           },
       .idle = unless_scheduled},
      {.path = "scheduler.params.warmup_min_ratio",
       .maximum = 1,
       .of_types = {"WarmupCosineLR"},
       .into = parameter(&SchedulerConfig::warmup_min_ratio),
       .idle = unless_scheduled},
      {.path = "scheduler.params.cos_min_ratio",
       .maximum = 1,
       .of_types = {"WarmupCosineLR"},
       .into = parameter(&SchedulerConfig::cos_min_ratio),
       .idle = unless_scheduled},
  };
}

void finish_schedule(Draft& draft, Problems& problems) {
  const std::string type = scheduler_types().of(draft);
  if (!scheduler_types().check(draft, problems) || type.empty() || type == "WarmupLR") return;
  if (draft.config.scheduler.total_num_steps == 0) {
    problems.push_back("scheduler.params.total_num_steps: required for " + type +
                       " (\"auto\" takes the number of steps of the run)");
  }
}

double learning_rate_at(const Config& config, std::uint64_t step) {
  const SchedulerConfig& scheduler = config.scheduler;
  const double index = step > 0 ? static_cast<double>(step - 1) : 0.0;
  const double warmup = static_cast<double>(std::max<std::uint64_t>(2, scheduler.warmup_num_steps));
  const double total = static_cast<double>(scheduler.total_num_steps);
  const double decay_steps = std::max(1.0, total - warmup);
  const double range = scheduler.warmup_max_lr - scheduler.warmup_min_lr;
  const bool warming = index < warmup;
  switch (scheduler.kind) {
    case ScheduleKind::kConstant:
      return config.optimizer.learning_rate;
    case ScheduleKind::kWarmup: {
      const double share = warming ? warmup_share(scheduler, index, warmup) : 1.0;
      return scheduler.warmup_min_lr + range * share;
    }
    case ScheduleKind::kWarmupDecay: {
      const double share = warming ? warmup_share(scheduler, index, warmup)
                                   : std::max(0.0, (total - index) / decay_steps);
      return scheduler.warmup_min_lr + range * share;
    }
    case ScheduleKind::kWarmupCosine: {
      if (warming) {
        const double low = scheduler.warmup_min_ratio;
        const double share = warmup_share(scheduler, index, warmup);
        return config.optimizer.learning_rate * (low + (1 - low) * share);
      }
      const double low = scheduler.cos_min_ratio;
      const double progress = std::min(1.0, (index - warmup + 1) / decay_steps);
      const double share = (1 + std::cos(std::numbers::pi * progress)) / 2;
      return config.optimizer.learning_rate * (low + (1 - low) * share);
    }
  }
  return config.optimizer.learning_rate;
}

}  // namespace spillway::trainer
