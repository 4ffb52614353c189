#include "tools/spillway/estimate/plan.h"

#include <fmt/format.h>
#include <spillway/pinned_pool/limits.h>
#include "trainer/plan/cache_plan.h"
#include "trainer/plan/generation_room.h"
#include "trainer/plan/optimizer_layout.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace spillway::tools {
namespace {

using pinned_pool::format_bytes;
using trainer::Config;
using trainer::EstimateInput;
using trainer::OffloadConfig;
using trainer::OffloadDevice;

// Left to the system and to what an estimate does not see, of what is free.
constexpr double kUsableShare = 0.95;

bool fits(std::uint64_t needed, std::uint64_t room) {
  return room == Machine::kUnknown ||
         static_cast<double>(needed) <= kUsableShare * static_cast<double>(room);
}

void set_accumulation(EstimateInput* input, std::uint64_t accumulation) {
  input->config.gradient_accumulation_steps = accumulation;
  input->config.train_batch_size =
      input->config.micro_batch_size * accumulation * input->world_size;
}

// update_order "auto" as training would resolve it on the drive; all ranks are taken to share it.
EstimateInput with_order(EstimateInput input, const Machine& machine) {
  if (input.config.update_order != trainer::UpdateOrder::kAuto) return input;
  input.config.update_order = trainer::resolved_update_order(input.config);
  if (!trainer::keeps_generations(input.config) || machine.nvme_bytes == Machine::kUnknown) {
    return input;
  }
  const trainer::Estimate bare = trainer::estimate(input);
  const std::uint64_t generation = (bare.rows[0].bytes.nvme + bare.rows[1].bytes.nvme) / 2;
  if (machine.nvme_bytes / trainer::kRoomForGenerations < generation * input.world_size) {
    input.config.update_order = trainer::UpdateOrder::kForward;
  }
  return input;
}

// max_in_cpu "auto" as training would resolve it with the machine's free RAM.
EstimateInput with_cache(EstimateInput input, const Machine& machine) {
  OffloadConfig& param = input.config.offload_param;
  OffloadConfig& optimizer = input.config.offload_optimizer;
  const auto automatic = [](const OffloadConfig& offload) {
    return offload.device == OffloadDevice::kNvme &&
           offload.max_in_cpu_elements == OffloadConfig::kAutoCache;
  };
  if (!automatic(param) && !automatic(optimizer)) return input;
  const trainer::Estimate bare = trainer::estimate(input);
  trainer::CacheNeeds needs;
  needs.free_bytes = machine.ram_bytes == Machine::kUnknown ? 0 : machine.ram_bytes;
  needs.local_ranks = input.world_size;
  needs.other_bytes = bare.total.pinned + bare.total.ram;
  // Gradients stay in RAM only where a quarter of it is left beside them.
  const trainer::TierBytes& gradients = bare.rows[2].bytes;
  if (!input.config.gradients.device) needs.other_bytes += (gradients.pinned + gradients.ram) / 3;
  const auto store = [&](const OffloadConfig& offload, std::size_t row) {
    // Two generations on NVMe are cached once; but weights are copied before an update ahead.
    const bool once = trainer::keeps_generations(input.config) && row != 0;
    const std::uint64_t bytes = bare.rows[row].bytes.nvme / (once ? 2 : 1);
    return trainer::CacheableStore{bare.rank_elements, automatic(offload) ? bytes : 0};
  };
  needs.weights = store(param, 0);
  needs.optimizer = store(optimizer, 1);
  const trainer::CachePlan cache = trainer::plan_cache(needs);
  if (automatic(param)) param.max_in_cpu_elements = cache.weight_elements;
  if (automatic(optimizer)) optimizer.max_in_cpu_elements = cache.optimizer_elements;
  return input;
}

// The plan of the largest number that fits; `found`, unless null, is set to that number.
template <typename Make>
std::optional<Plan> largest(std::uint64_t least, std::uint64_t most, const Machine& machine,
                            const Make& make, std::uint64_t* found = nullptr) {
  std::optional<Plan> best;
  while (least <= most) {
    const std::uint64_t middle = least + (most - least) / 2;
    Plan plan = make_plan(make(middle), machine);
    if (misfits(plan, machine).empty()) {
      best = std::move(plan);
      if (found != nullptr) *found = middle;
      least = middle + 1;
    } else {
      most = middle - 1;
    }
  }
  return best;
}

// A batch large enough that computing takes as long as the storage, or the largest that fits.
void try_batch(const Plan& plan, const Machine& machine,
               std::vector<std::pair<EstimateInput, Advice>>* tries) {
  const double tokens = trainer::break_even_tokens(plan.input, *plan.time);
  const double per_micro =
      static_cast<double>(plan.input.config.micro_batch_size * plan.input.tokens_per_sample());
  const std::uint64_t now = plan.input.config.gradient_accumulation_steps;
  const double wanted = std::ceil(tokens / per_micro);
  if (wanted <= static_cast<double>(now)) return;
  const auto with = [&](std::uint64_t accumulation) {
    EstimateInput input = plan.input;
    set_accumulation(&input, accumulation);
    return input;
  };
  const auto most = static_cast<std::uint64_t>(std::min(wanted, 1e6));
  const auto best = largest(now, most, machine, with);
  if (!best) return;
  const std::uint64_t accumulation = best->input.config.gradient_accumulation_steps;
  const std::string hides = fmt::format(
      "computing takes as long as the I/O at T* = {:.0f} tokens a step on a rank", tokens);
  tries->push_back(
      {best->input,
       {fmt::format("train_batch_size {} -> {} (accumulation {})",
                    plan.input.config.train_batch_size, best->input.config.train_batch_size,
                    accumulation),
        static_cast<double>(accumulation) >= wanted ? hides : hides + "; this is what fits"}});
}

// As much of the states in RAM as is free.
void try_cache(const Plan& plan, const Machine& machine,
               std::vector<std::pair<EstimateInput, Advice>>* tries) {
  if (machine.ram_bytes == Machine::kUnknown) return;
  const double free =
      kUsableShare * static_cast<double>(machine.ram_bytes) - static_cast<double>(plan.ram_needed);
  const auto held = [&](OffloadConfig trainer::Config::*which, double bytes, const char* section) {
    const OffloadConfig& offload = plan.input.config.*which;
    if (offload.device != OffloadDevice::kNvme || free <= 0) return;
    const std::uint64_t all = plan.estimate.rank_elements;
    const auto more = static_cast<std::uint64_t>(free / bytes);
    const std::uint64_t elements = std::min(offload.max_in_cpu_elements + more, all);
    if (elements <= offload.max_in_cpu_elements + all / 50) return;
    EstimateInput input = plan.input;
    (input.config.*which).max_in_cpu_elements = elements;
    tries->push_back(
        {input,
         {fmt::format("{}.max_in_cpu {} -> {}", section, offload.max_in_cpu_elements, elements),
          fmt::format("{:.0f}% of them stay in RAM that is free now, and are not moved",
                      100.0 * static_cast<double>(elements) / static_cast<double>(all))}});
  };
  held(&Config::offload_optimizer,
       trainer::bytes_per_element(trainer::optimizer_layout(plan.input.config)),
       "offload_optimizer");
  held(&Config::offload_param,
       trainer::bytes_per_element(trainer::weight_layout(plan.input.config)), "offload_param");
}

// Not with Adagrad, whose sum would stop growing in so few bits.
void try_smaller_states(const Plan& plan, std::vector<std::pair<EstimateInput, Advice>>* tries) {
  const trainer::OptimizerConfig& optimizer = plan.input.config.optimizer;
  if (optimizer.kind == trainer::OptimizerKind::kAdagrad) return;
  if (optimizer.state_dtype != trainer::StateDtype::kFp32) return;
  for (const auto& [name, type] : {std::pair("bf16", trainer::StateDtype::kBf16),
                                   std::pair("int8", trainer::StateDtype::kInt8)}) {
    EstimateInput input = plan.input;
    input.config.optimizer.state_dtype = type;
    tries->push_back({input,
                      {std::string("optimizer.params.state_dtype ") + name,
                       "smaller moments, which lose accuracy"}});
  }
}

void try_order(const Plan& plan, std::vector<std::pair<EstimateInput, Advice>>* tries) {
  EstimateInput input = plan.input;
  if (plan.time->in_background && !plan.time->during_backward) {
    input.config.update_order = trainer::UpdateOrder::kBackward;
    if (!trainer::keeps_generations(input.config)) return;
    tries->push_back({input,
                      {"offload_optimizer.update_order backward",
                       "the update overlaps with backward too, for twice the space on NVMe"}});
  }
  if (plan.time->in_background) return;
  input.config.update_order = trainer::UpdateOrder::kForward;
  tries->push_back({input,
                    {"offload_optimizer.update_order forward",
                     "the update overlaps with the forward that follows, the same bits"}});
}

void try_bf16(const Plan& plan, std::vector<std::pair<EstimateInput, Advice>>* tries) {
  if (plan.input.config.dtype == trainer::Dtype::kBf16) return;
  EstimateInput input = plan.input;
  input.config.dtype = trainer::Dtype::kBf16;
  tries->push_back({input, {"bf16.enabled=true", "half the bytes of each weight, exact masters"}});
}

}  // namespace

double Plan::tokens_per_second() const {
  return time ? static_cast<double>(estimate.tokens_per_step) / time->seconds : 0;
}

Plan make_plan(const EstimateInput& input, const Machine& machine) {
  EstimateInput here = input;
  if (machine.ram_bytes != Machine::kUnknown) here.ram_bytes = machine.ram_bytes / input.world_size;
  Plan plan{with_cache(with_order(here, machine), machine), {}, std::nullopt, 0};
  plan.input.compute_scale = machine.compute_scale;
  plan.estimate = trainer::estimate(plan.input);
  plan.ram_needed = plan.estimate.total.pinned + plan.estimate.total.ram + machine.program_bytes;
  if (machine.times_known) {
    plan.time = trainer::step_time(plan.input, plan.estimate, machine.speeds);
  }
  return plan;
}

CheckpointRoom checkpoint_room(const Plan& plan, const Machine& machine) {
  if (!machine.saved) return {};
  const std::uint64_t all = machine.saved->at_most * plan.estimate.checkpoint_bytes;
  if (machine.saved->linked) return {.nvme_bytes = all / plan.input.world_size};
  return {.nvme_bytes = plan.estimate.generation_bytes, .directory_bytes = all};
}

std::vector<std::string> misfits(const Plan& plan, const Machine& machine) {
  std::vector<std::string> reasons;
  const auto check = [&](const char* what, std::uint64_t needed, std::uint64_t room) {
    if (fits(needed, room)) return;
    reasons.push_back(fmt::format(
        "{}: {} needed, {} of {} usable", what, format_bytes(needed),
        format_bytes(static_cast<std::uint64_t>(kUsableShare * static_cast<double>(room))),
        format_bytes(room)));
  };
  check("RAM", plan.ram_needed, machine.ram_bytes);
  check("GPU memory", plan.estimate.total.device, machine.device_bytes);
  const CheckpointRoom saved = checkpoint_room(plan, machine);
  check(saved.nvme_bytes > 0 ? "NVMe, with checkpoints" : "NVMe",
        plan.estimate.total.nvme + saved.nvme_bytes, machine.nvme_bytes);
  if (saved.directory_bytes > 0) {
    const std::string what = "checkpoints in " + machine.saved->directory;
    check(what.c_str(), saved.directory_bytes, machine.saved->free_bytes);
  }
  return reasons;
}

std::vector<Advice> advise(const Plan& plan, const Machine& machine) {
  std::vector<std::pair<EstimateInput, Advice>> tries;
  if (plan.time->storage_known) try_batch(plan, machine, &tries);
  try_cache(plan, machine, &tries);
  try_order(plan, &tries);
  try_bf16(plan, &tries);
  try_smaller_states(plan, &tries);
  std::vector<Advice> advice;
  for (auto& [input, one] : tries) {
    const Plan changed = make_plan(input, machine);
    if (!misfits(changed, machine).empty()) continue;
    one.times_faster = changed.tokens_per_second() / plan.tokens_per_second();
    if (one.times_faster > 1.02) advice.push_back(std::move(one));
  }
  std::stable_sort(advice.begin(), advice.end(), [](const Advice& a, const Advice& b) {
    return a.times_faster > b.times_faster;
  });
  return advice;
}

std::optional<Plan> largest_batch(const EstimateInput& input, const Machine& machine) {
  return largest(1, std::uint64_t{1} << 20, machine, [&](std::uint64_t accumulation) {
    EstimateInput one = input;
    set_accumulation(&one, accumulation);
    return one;
  });
}

Result<LargestModel> largest_model(const trainer::ModelConfig& like, const EstimateInput& input,
                                   const Machine& machine) {
  constexpr std::uint64_t kMostSize = 384;  // beyond a trillion parameters
  const auto smallest = like.of_size(1);
  if (!smallest) {
    return make_error(ErrorKind::kUnsupported, "estimate", "",
                      like.family().title() + " has no usual proportions to grow a model by");
  }
  LargestModel found{std::nullopt, *smallest};
  std::uint64_t size = 1;
  found.plan = largest(
      1, kMostSize, machine,
      [&](std::uint64_t one) {
        EstimateInput with = input;
        with.model = like.of_size(static_cast<std::uint32_t>(one))->model->shape();
        return with;
      },
      &size);
  found.model = *like.of_size(static_cast<std::uint32_t>(size));
  return found;
}

}  // namespace spillway::tools
