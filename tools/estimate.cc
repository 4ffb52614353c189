#include "estimate.h"

#include <fmt/format.h>
#include <spillway/aio/probe.h>
#include <spillway/pinned_pool/limits.h>
#include <spillway/trainer/estimate.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include "error_text.h"

namespace spillway::tools {
namespace {

using pinned_pool::format_bytes;
using pinned_pool::MemoryLimits;
using trainer::Estimate;
using trainer::EstimateInput;
using trainer::TierBytes;

// Endurance of a common 1 TB consumer drive.
constexpr double kRatedTerabytes = 600;

struct Options {
  std::string model;
  std::string config;
  std::vector<std::string> overrides;
  std::uint32_t world_size = 1;
  std::string device = "cpu";
  bool json = false;
};

std::string cell(std::uint64_t bytes) { return bytes == 0 ? "-" : format_bytes(bytes); }

void print_row(const std::string& what, const TierBytes& bytes, bool on_gpu) {
  fmt::print("  {:<18}", what);
  if (on_gpu) fmt::print("{:>12}", cell(bytes.device));
  fmt::print("{:>12}{:>12}{:>12}\n", cell(bytes.pinned), cell(bytes.ram), cell(bytes.nvme));
}

void print_memory(const Estimate& estimate, bool on_gpu) {
  fmt::print("\n  {:<18}", "held per rank");
  if (on_gpu) fmt::print("{:>12}", "device");
  fmt::print("{:>12}{:>12}{:>12}\n", "pinned RAM", "RAM", "NVMe");
  for (const trainer::MemoryRow& row : estimate.rows) print_row(row.what, row.bytes, on_gpu);
  print_row("total", estimate.total, on_gpu);
}

void print_traffic(const Estimate& estimate) {
  const trainer::StepTraffic& traffic = estimate.traffic;
  const double elements = static_cast<double>(estimate.rank_elements);
  fmt::print("\n  {:<18}{:>12}{:>16}\n", "NVMe per step", "bytes", "per parameter");
  const auto line = [&](const char* what, double bytes) {
    fmt::print("  {:<18}{:>12}{:>16.2f}\n", what, cell(static_cast<std::uint64_t>(bytes)),
               bytes / elements);
  };
  line("read, forward", traffic.forward_read);
  line("read, backward", traffic.backward_read);
  line("read, update", traffic.update_read);
  line("written, update", traffic.update_written);
  if (traffic.written() == 0) return;
  fmt::print("  a drive rated for {:.0f} TB written lasts {:.0f} steps\n", kRatedTerabytes,
             kRatedTerabytes * 1e12 / traffic.written());
}

// Whether this machine can hold it, one line each; nothing when it cannot be known.
std::vector<std::string> compare_with_machine(const EstimateInput& input,
                                              const Estimate& estimate) {
  std::vector<std::string> lines;
  const MemoryLimits limits = MemoryLimits::read();
  const std::uint64_t needed = estimate.total.pinned + estimate.total.ram;
  std::uint64_t room = limits.available_bytes;
  if (limits.cgroup_limit_bytes != MemoryLimits::kUnlimited) {
    const std::uint64_t used = std::min(limits.cgroup_used_bytes, limits.cgroup_limit_bytes);
    room = std::min(room, limits.cgroup_limit_bytes - used);
  }
  if (room != MemoryLimits::kUnlimited) {
    lines.push_back(fmt::format("RAM: {} needed by a rank, {} free here: {}", format_bytes(needed),
                                format_bytes(room), needed <= room ? "fits" : "does not fit"));
  }
  if (limits.memlock_bytes != MemoryLimits::kUnlimited &&
      estimate.total.pinned + limits.locked_bytes > limits.memlock_bytes) {
    lines.push_back(fmt::format("pinned RAM: {} needed, RLIMIT_MEMLOCK allows {} (ulimit -l)",
                                format_bytes(estimate.total.pinned),
                                format_bytes(limits.memlock_bytes)));
  }
  std::set<std::filesystem::path> directories;
  for (const trainer::OffloadConfig* offload :
       {&input.config.offload_param, &input.config.offload_optimizer}) {
    if (offload->device == trainer::OffloadDevice::kNvme) directories.insert(offload->nvme_path);
  }
  for (const std::filesystem::path& directory : directories) {
    const aio::PathProbe probe = aio::probe_path(directory);
    if (probe.size_bytes == 0) {
      lines.push_back(fmt::format("NVMe: {} does not exist here", directory.string()));
      continue;
    }
    const bool fits = estimate.total.nvme <= probe.free_bytes;
    lines.push_back(fmt::format("NVMe: {} needed by a rank, {} free in {}: {}",
                                format_bytes(estimate.total.nvme), format_bytes(probe.free_bytes),
                                directory.string(), fits ? "fits" : "does not fit"));
  }
  return lines;
}

void print_text(const Options& options, const EstimateInput& input, const Estimate& estimate) {
  const trainer::Config& config = input.config;
  fmt::print("{}: {:.1f} M parameters, {}, offload parameters {}, optimizer {}, {} rank{}\n",
             options.model, static_cast<double>(estimate.parameters) / 1e6,
             config.dtype == trainer::Dtype::kBf16 ? "bf16" : "fp32",
             trainer::to_string(config.offload_param.device),
             trainer::to_string(config.offload_optimizer.device), options.world_size,
             options.world_size == 1 ? "" : "s");
  fmt::print("a step: {} samples x {} tokens = {} tokens, {:.3g} TFLOP\n", config.train_batch_size,
             input.model.n_positions, estimate.tokens_per_step, estimate.flops_per_step / 1e12);
  print_memory(estimate, input.on_gpu);
  print_traffic(estimate);
  fmt::print("\n");
  for (const std::string& line : compare_with_machine(input, estimate)) {
    fmt::print("  {}\n", line);
  }
}

nlohmann::ordered_json as_json(const TierBytes& bytes) {
  return {{"device_bytes", bytes.device},
          {"pinned_bytes", bytes.pinned},
          {"ram_bytes", bytes.ram},
          {"nvme_bytes", bytes.nvme}};
}

void print_json(const Options& options, const EstimateInput& input, const Estimate& estimate) {
  nlohmann::ordered_json out;
  out["model"] = options.model;
  out["parameters"] = estimate.parameters;
  out["world_size"] = options.world_size;
  out["tokens_per_step"] = estimate.tokens_per_step;
  out["flops_per_step"] = estimate.flops_per_step;
  for (const trainer::MemoryRow& row : estimate.rows) out["held"][row.what] = as_json(row.bytes);
  out["held"]["total"] = as_json(estimate.total);
  const trainer::StepTraffic& traffic = estimate.traffic;
  const auto bytes = [](double value) { return static_cast<std::uint64_t>(value); };
  out["nvme_per_step"] = {{"forward_read_bytes", bytes(traffic.forward_read)},
                          {"backward_read_bytes", bytes(traffic.backward_read)},
                          {"update_read_bytes", bytes(traffic.update_read)},
                          {"update_written_bytes", bytes(traffic.update_written)}};
  out["machine"] = compare_with_machine(input, estimate);
  fmt::print("{}\n", out.dump(2));
}

Result<EstimateInput> read_input(const Options& options) {
  EstimateInput input;
  Result<trainer::GptConfig> model = trainer::load_model(options.model);
  if (!model) return tl::unexpected(model.error());
  trainer::ConfigInput config_input;
  config_input.file = options.config;
  config_input.overrides = options.overrides;
  config_input.world_size = options.world_size;
  config_input.total_steps = 1;  // a schedule's length changes no byte
  config_input.hidden_size = model->n_embd;
  Result<trainer::ConfigResult> config = trainer::load_config(config_input);
  if (!config) return tl::unexpected(config.error());
  input.model = *model;
  input.config = config->config;
  input.world_size = options.world_size;
  input.on_gpu = options.device == "cuda";
  return input;
}

void run(const Options& options, int& exit_code) {
  const Result<EstimateInput> input = read_input(options);
  if (!input) {
    fmt::print(stderr, "spillway estimate: {}\n", error_text(input.error()));
    exit_code = 1;
    return;
  }
  const Estimate estimate = trainer::estimate(*input);
  if (options.json) {
    print_json(options, *input, estimate);
  } else {
    print_text(options, *input, estimate);
  }
}

}  // namespace

void add_estimate(CLI::App& program, int& exit_code) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand(
      "estimate", "Say what a run will hold in each tier and move per step, before it is started");
  command->add_option("--model", options->model, "A model's name, or a JSON file with GPT-2's keys")
      ->required();
  command->add_option("--config", options->config, "DeepSpeed-style JSON configuration");
  command
      ->add_option("--set", options->overrides,
                   "A configuration key and value, key=value; may repeat")
      ->allow_extra_args(false);
  command->add_option("--world", options->world_size, "Number of ranks")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command->add_option("--device", options->device, "Where units run")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(
      "Example:\n"
      "  spillway estimate --model gpt-lite --config nvme.json --set train_batch_size=16");
  command->callback([options, &exit_code] { run(*options, exit_code); });
}

}  // namespace spillway::tools
