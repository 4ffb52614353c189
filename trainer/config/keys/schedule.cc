#include <spillway/trainer/config.h>
#include <algorithm>
#include <cmath>
#include <numbers>

namespace spillway::trainer {
namespace {

double warmup_share(const SchedulerConfig& scheduler, double index, double warmup) {
  return scheduler.warmup_log ? std::log(index + 1) / std::log(warmup) : index / warmup;
}

}  // namespace

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
