#include "tools/spillway/estimate/report.h"

#include <fmt/format.h>
#include <spillway/pinned_pool/limits.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace spillway::tools {
namespace {

using nlohmann::ordered_json;
using pinned_pool::format_bytes;
using trainer::Estimate;
using trainer::EstimateInput;
using trainer::PhaseTime;
using trainer::Resource;
using trainer::TierBytes;

std::string cell(std::uint64_t bytes) { return bytes == 0 ? "-" : format_bytes(bytes); }

void print_row(const std::string& what, const TierBytes& bytes, bool on_gpu) {
  fmt::print("  {:<18}", what);
  if (on_gpu) fmt::print("{:>12}", cell(bytes.device));
  fmt::print("{:>12}{:>12}{:>12}\n", cell(bytes.pinned), cell(bytes.ram), cell(bytes.nvme));
}

void print_memory(const Plan& plan, const Machine& machine) {
  const bool on_gpu = plan.input.on_gpu;
  fmt::print("\n  {:<18}", "held per rank");
  if (on_gpu) fmt::print("{:>12}", "device");
  fmt::print("{:>12}{:>12}{:>12}\n", "pinned RAM", "RAM", "NVMe");
  for (const trainer::MemoryRow& row : plan.estimate.rows) print_row(row.what, row.bytes, on_gpu);
  TierBytes total = plan.estimate.total;
  if (machine.program_bytes > 0) {
    TierBytes program;
    program.ram = machine.program_bytes;
    print_row("program (here)", program, on_gpu);
    total += program;
  }
  print_row("total", total, on_gpu);
}

void print_traffic(const ReportOptions& options, const Plan& plan) {
  const trainer::StepTraffic& traffic = plan.estimate.traffic;
  const double elements = static_cast<double>(plan.estimate.rank_elements);
  fmt::print("\n  {:<18}{:>12}{:>16}\n", "NVMe per step", "bytes", "per parameter");
  const auto line = [&](const char* what, double bytes) {
    fmt::print("  {:<18}{:>12}{:>16.2f}\n", what, cell(static_cast<std::uint64_t>(bytes)),
               bytes / elements);
  };
  line("read, forward", traffic.forward_read);
  line("read, backward", traffic.backward_read);
  line("read, update", traffic.update_read);
  if (traffic.forward_written > 0) line("written, forward", traffic.forward_written);
  if (traffic.backward_written > 0) line("written, backward", traffic.backward_written);
  line("written, update", traffic.update_written);
  if (traffic.written() == 0) return;
  const double steps = options.rated_terabytes * 1e12 / traffic.written();
  fmt::print("  a drive rated for {:.0f} TB written lasts {:.0f} steps", options.rated_terabytes,
             steps);
  if (plan.time && plan.time->storage_known) {
    fmt::print(", {:.1f} days of training", steps * plan.time->seconds / 86400);
  }
  fmt::print("\n");
}

void print_checkpoints(const Plan& plan, const Machine& machine) {
  const std::uint64_t each = plan.estimate.checkpoint_bytes;
  fmt::print("\n  a checkpoint is {}{}", format_bytes(each),
             plan.input.world_size > 1 ? ", of all ranks" : "");
  if (!machine.saved) {
    fmt::print(" (--checkpoint-dir: where, and what they take in all)\n");
    return;
  }
  const SavedWhere& saved = *machine.saved;
  fmt::print("; {} of them at a time (--keep {}, and the one being written): {} in {}",
             saved.at_most, saved.at_most - 1, format_bytes(saved.at_most * each), saved.directory);
  const std::uint64_t on_nvme = plan.estimate.generation_bytes;
  if (on_nvme > 0 && saved.linked) {
    fmt::print(",\n  as links of the swap files: nothing is written for them");
  } else if (on_nvme > 0) {
    fmt::print(",\n  and {} more of the NVMe while one is copied beside training",
               format_bytes(on_nvme));
  }
  const bool in_memory = on_nvme * plan.input.world_size < each;
  fmt::print("{}\n", in_memory ? "; training waits while states in RAM are written" : "");
}

// "8.13 s", "35.2 ms", "-".
std::string duration(double seconds) {
  if (seconds < 5e-8) return "-";
  return seconds >= 1 ? fmt::format("{:.2f} s", seconds) : fmt::format("{:.1f} ms", seconds * 1e3);
}

void print_time(const Plan& plan, const Machine& machine) {
  for (const std::string& source : machine.sources) fmt::print("  {}\n", source);
  for (const std::string& what : machine.missing) fmt::print("  not known: {}\n", what);
  if (!plan.time) return;
  const trainer::StepTime& time = *plan.time;
  fmt::print("\n  {:<18}", "time a step");
  for (std::size_t i = 0; i < trainer::kResources; ++i) {
    if (!plan.input.on_gpu && i > static_cast<std::size_t>(Resource::kStorage)) break;
    fmt::print("{:>{}}", trainer::name_of(static_cast<Resource>(i)), i < 3 ? 12 : 22);
  }
  fmt::print("{:>14}\n", "takes");
  const auto line = [&](const char* what, const PhaseTime& phase, double takes) {
    fmt::print("  {:<18}", what);
    for (std::size_t i = 0; i < trainer::kResources; ++i) {
      if (!plan.input.on_gpu && i > static_cast<std::size_t>(Resource::kStorage)) break;
      fmt::print("{:>{}}", duration(phase.use[i]), i < 3 ? 12 : 22);
    }
    fmt::print("{:>14}\n", duration(takes));
  };
  PhaseTime all = time.forward;
  (all += time.backward) += time.update;
  line("forward", time.forward, time.forward.seconds(time.one_processor));
  line("backward", time.backward, time.backward.seconds(time.one_processor));
  line("update", time.update, time.update.seconds(time.one_processor));
  line("step", all, time.seconds);
  if (time.in_background) {
    fmt::print("  (the update overlaps with {}the forward that follows)\n",
               time.during_backward ? "backward and " : "");
  }
  if (!time.storage_known) {
    fmt::print("  without the NVMe's time: its speed is not known\n");
    return;
  }
  fmt::print(
      "  {:.4g} tokens a second; all overlapped it would be {} a step: the order of work adds "
      "{}\n",
      plan.tokens_per_second(), duration(time.bound_seconds), duration(time.seconds_added));
  const bool both = time.one_processor && time.limit == Resource::kCompute;
  fmt::print("  the limit is {}\n",
             both ? "compute (and the update, on the same cores)" : trainer::name_of(time.limit));
  int number = 0;
  for (const Advice& advice : advise(plan, machine)) {
    fmt::print("  {} {}: {:.2f} times the tokens a second; {}\n",
               number++ == 0 ? "change first:" : "then or instead:", advice.change,
               advice.times_faster, advice.why);
  }
}

void print_fits(const Plan& plan, const Machine& machine) {
  fmt::print("\n");
  const std::vector<std::string> reasons = misfits(plan, machine);
  for (const std::string& reason : reasons) fmt::print("  does not fit: {}\n", reason);
  if (reasons.empty()) {
    fmt::print("  fits: RAM {} of {} free here", format_bytes(plan.ram_needed),
               machine.ram_bytes == Machine::kUnknown ? "?" : format_bytes(machine.ram_bytes));
    if (plan.input.on_gpu && machine.device_bytes != Machine::kUnknown) {
      fmt::print(", GPU {} of {}", format_bytes(plan.estimate.total.device),
                 format_bytes(machine.device_bytes));
    }
    const CheckpointRoom saved = checkpoint_room(plan, machine);
    if (plan.estimate.total.nvme > 0 && machine.nvme_bytes != Machine::kUnknown) {
      fmt::print(
          ", NVMe {} of {} free{}", format_bytes(plan.estimate.total.nvme + saved.nvme_bytes),
          format_bytes(machine.nvme_bytes), saved.nvme_bytes > 0 ? " (with checkpoints)" : "");
    }
    if (saved.directory_bytes > 0 && machine.saved->free_bytes != Machine::kUnknown) {
      fmt::print(", checkpoints {} of {}", format_bytes(saved.directory_bytes),
                 format_bytes(machine.saved->free_bytes));
    }
    fmt::print("\n");
  }
  const auto limits = pinned_pool::MemoryLimits::read();
  if (limits.memlock_bytes != pinned_pool::MemoryLimits::kUnlimited &&
      plan.estimate.total.pinned + limits.locked_bytes > limits.memlock_bytes) {
    fmt::print("  pinned RAM: {} needed, RLIMIT_MEMLOCK allows {} (ulimit -l)\n",
               format_bytes(plan.estimate.total.pinned), format_bytes(limits.memlock_bytes));
  }
}

ordered_json as_json(const TierBytes& bytes) {
  return {{"device_bytes", bytes.device},
          {"pinned_bytes", bytes.pinned},
          {"ram_bytes", bytes.ram},
          {"nvme_bytes", bytes.nvme}};
}

ordered_json time_json(const Plan& plan, const Machine& machine) {
  const trainer::StepTime& time = *plan.time;
  ordered_json out{{"seconds", time.seconds},
                   {"overlapped_seconds", time.bound_seconds},
                   {"tokens_per_second", plan.tokens_per_second()},
                   {"update_in_background", time.in_background},
                   {"update_during_backward", time.during_backward},
                   {"limit", trainer::name_of(time.limit)},
                   {"storage_speed_known", time.storage_known},
                   {"break_even_tokens", trainer::break_even_tokens(plan.input, time)}};
  const std::pair<const char*, const PhaseTime*> phases[] = {
      {"forward", &time.forward}, {"backward", &time.backward}, {"update", &time.update}};
  for (const auto& [name, phase] : phases) {
    out["phases"][name]["seconds"] = phase->seconds(time.one_processor);
    for (std::size_t i = 0; i < trainer::kResources; ++i) {
      out["phases"][name][trainer::name_of(static_cast<Resource>(i))] = phase->use[i];
    }
  }
  for (const Advice& advice : advise(plan, machine)) {
    out["advice"].push_back(
        {{"change", advice.change}, {"why", advice.why}, {"times_faster", advice.times_faster}});
  }
  return out;
}

ordered_json checkpoint_json(const Plan& plan, const Machine& machine) {
  ordered_json out{{"bytes", plan.estimate.checkpoint_bytes}};
  if (!machine.saved) return out;
  const CheckpointRoom room = checkpoint_room(plan, machine);
  out["at_most"] = machine.saved->at_most;
  out["linked"] = machine.saved->linked && plan.estimate.generation_bytes > 0;
  out["nvme_bytes"] = room.nvme_bytes;
  out["directory_bytes"] = room.directory_bytes;
  return out;
}

ordered_json plan_json(const ReportOptions& options, const Plan& plan, const Machine& machine) {
  const Estimate& estimate = plan.estimate;
  ordered_json out;
  out["model"] = options.model;
  for (const auto& [name, size] : plan.input.model.sizes) out["shape"][name] = size;
  out["parameters"] = estimate.parameters;
  out["world_size"] = plan.input.world_size;
  out["train_batch_size"] = plan.input.config.train_batch_size;
  out["tokens_per_step"] = estimate.tokens_per_step;
  out["flops_per_step"] = estimate.flops_per_step;
  for (const trainer::MemoryRow& row : estimate.rows) out["held"][row.what] = as_json(row.bytes);
  out["held"]["total"] = as_json(estimate.total);
  out["program_bytes"] = machine.program_bytes;
  const trainer::StepTraffic& traffic = estimate.traffic;
  const auto bytes = [](double value) { return static_cast<std::uint64_t>(value); };
  out["nvme_per_step"] = {{"forward_read_bytes", bytes(traffic.forward_read)},
                          {"backward_read_bytes", bytes(traffic.backward_read)},
                          {"update_read_bytes", bytes(traffic.update_read)},
                          {"forward_written_bytes", bytes(traffic.forward_written)},
                          {"backward_written_bytes", bytes(traffic.backward_written)},
                          {"update_written_bytes", bytes(traffic.update_written)}};
  if (traffic.written() > 0) {
    out["drive_life_steps"] = options.rated_terabytes * 1e12 / traffic.written();
  }
  out["checkpoint"] = checkpoint_json(plan, machine);
  out["does_not_fit"] = misfits(plan, machine);
  out["machine"] = {{"speeds_from", machine.sources}, {"not_known", machine.missing}};
  if (plan.time) out["time_per_step"] = time_json(plan, machine);
  return out;
}

void print_head(const ReportOptions& options, const Plan& plan) {
  const trainer::Config& config = plan.input.config;
  fmt::print("{}: {:.1f} M parameters, {}, offload parameters {}, optimizer {}, {} rank{}\n",
             options.model, static_cast<double>(plan.estimate.parameters) / 1e6,
             config.dtype == trainer::Dtype::kBf16 ? "bf16" : "fp32",
             trainer::to_string(config.offload_param.device),
             trainer::to_string(config.offload_optimizer.device), plan.input.world_size,
             plan.input.world_size == 1 ? "" : "s");
  fmt::print("a step: {} samples x {} tokens = {} tokens, {:.3g} TFLOP\n", config.train_batch_size,
             plan.input.tokens_per_sample(), plan.estimate.tokens_per_step,
             plan.estimate.flops_per_step / 1e12);
}

// As JSON, or that not even the smallest fits.
void print_found(const ReportOptions& options, const std::optional<Plan>& plan,
                 const std::string& smallest, const Machine& machine) {
  if (options.json) {
    const ordered_json found = plan ? plan_json(options, *plan, machine) : ordered_json();
    fmt::print("{}\n", ordered_json{{"fits", found}}.dump(2));
  } else {
    fmt::print("not even {} fits this machine with this configuration\n", smallest);
  }
}

}  // namespace

void print_plan(const ReportOptions& options, const Plan& plan, const Machine& machine) {
  if (options.json) {
    fmt::print("{}\n", plan_json(options, plan, machine).dump(2));
    return;
  }
  print_head(options, plan);
  print_memory(plan, machine);
  print_traffic(options, plan);
  print_checkpoints(plan, machine);
  print_fits(plan, machine);
  if (options.times) {
    fmt::print("\n");
    print_time(plan, machine);
  }
}

void print_largest_batch(const ReportOptions& options, const std::optional<Plan>& plan,
                         const Machine& machine) {
  if (!plan || options.json) return print_found(options, plan, "one micro-batch a step", machine);
  fmt::print(
      "the largest batch that this machine trains with this configuration: {} samples a "
      "step (micro-batch {} x accumulation {})\n\n",
      plan->input.config.train_batch_size, plan->input.config.micro_batch_size,
      plan->input.config.gradient_accumulation_steps);
  print_plan(options, *plan, machine);
}

void print_largest_model(const ReportOptions& options, const LargestModel& largest,
                         const Machine& machine) {
  const std::optional<Plan>& plan = largest.plan;
  if (!plan || options.json) return print_found(options, plan, largest.model.name, machine);
  fmt::print(
      "the largest model that this machine trains with this configuration: {:.3g} B "
      "parameters\n  {}\n\n",
      static_cast<double>(plan->estimate.parameters) / 1e9, largest.model.text);
  print_plan(options, *plan, machine);
}

void print_deepspeed(const ReportOptions& options, const DeepspeedInput& input,
                     const std::vector<OurRow>& ours) {
  const std::vector<DeepspeedRow> theirs = deepspeed_memory(input);
  if (options.json) {
    ordered_json out{{"parameters", input.parameters},
                     {"largest_layer_parameters", input.largest_layer_parameters},
                     {"gpus_per_node", input.gpus_per_node},
                     {"nodes", input.nodes}};
    for (const DeepspeedRow& row : theirs) {
      out["deepspeed"].push_back({{"stage", row.stage},
                                  {"offload_param", row.offload_param},
                                  {"offload_optimizer", row.offload_optimizer},
                                  {"zero_init", row.zero_init},
                                  {"cpu_bytes", row.cpu_bytes},
                                  {"gpu_bytes", row.gpu_bytes}});
    }
    for (const OurRow& row : ours) {
      out["spillway"].push_back({{"offload_param", row.offload_param},
                                 {"offload_optimizer", row.offload_optimizer},
                                 {"held_per_rank", as_json(row.held)}});
    }
    fmt::print("{}\n", out.dump(2));
    return;
  }
  constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
  fmt::print(
      "parameters, optimizer states and gradients of {:.0f} M parameters, largest layer {:.0f} "
      "M;\n{} node{}, {} GPU{} each; GB are 2^30 bytes\n\n",
      input.parameters / 1e6, input.largest_layer_parameters / 1e6, input.nodes,
      input.nodes == 1 ? "" : "s", input.gpus_per_node, input.gpus_per_node == 1 ? "" : "s");
  fmt::print("  DeepSpeed's estimators (0.19.8)\n");
  fmt::print("  {:>12} | {:>10} | options\n", "per CPU", "per GPU");
  for (const DeepspeedRow& row : theirs) {
    fmt::print("  {:>10.2f}GB | {:>8.2f}GB | stage {}, {}offload_optimizer={}{}\n",
               row.cpu_bytes / kGiB, row.gpu_bytes / kGiB, row.stage,
               row.stage == 3 ? "offload_param=" + row.offload_param + ", " : "",
               row.offload_optimizer,
               row.stage == 3 ? fmt::format(", zero_init={:d}", row.zero_init) : "");
  }
  fmt::print("\n  Spillway (stage 3; a model is made unit by unit, there is no other way)\n");
  fmt::print("  {:>12} | {:>10} | {:>10} | options\n", "per CPU", "per GPU", "per NVMe");
  for (const OurRow& row : ours) {
    const double ranks = input.gpus_per_node;
    fmt::print("  {:>10.2f}GB | {:>8.2f}GB | {:>8.2f}GB | offload_param={}, offload_optimizer={}\n",
               ranks * static_cast<double>(row.held.pinned + row.held.ram) / kGiB,
               static_cast<double>(row.held.device) / kGiB,
               ranks * static_cast<double>(row.held.nvme) / kGiB, row.offload_param,
               row.offload_optimizer);
  }
  fmt::print("  per CPU and per NVMe: of a node; neither table counts activations\n");
}

}  // namespace spillway::tools
