#include "tools/spillway/estimate/estimate.h"

#include <fmt/format.h>
#include <spillway/trainer/estimate.h>
#include <spillway/trainer/model.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "tools/spillway/common/error_text.h"
#include "tools/spillway/estimate/machine.h"
#include "tools/spillway/estimate/plan.h"
#include "tools/spillway/estimate/report.h"

namespace spillway::tools {
namespace {

using trainer::EstimateInput;
using trainer::OffloadDevice;

struct Options {
  std::string model;
  std::string config;
  std::vector<std::string> overrides;
  std::uint32_t world_size = 1;
  std::uint32_t context = 0;
  std::string device = "cpu";
  MachineOptions machine;
  ReportOptions report;
  std::string fit;
  bool deepspeed = false;
  double parameters = 0;
  double largest_layer = 0;
  std::uint32_t gpus_per_node = 1;
  std::uint32_t nodes = 1;
};

// A model, and its training.
struct Input {
  trainer::ModelConfigPtr model;
  EstimateInput training;
};

Result<Input> read_input(const Options& options) {
  EstimateInput input;
  auto model = trainer::load_model_config(options.model);
  if (!model) return tl::unexpected(model.error());
  input.model = (*model)->shape();
  trainer::ConfigInput config_input;
  config_input.file = options.config;
  config_input.overrides = options.overrides;
  config_input.world_size = options.world_size;
  config_input.total_steps = 1;  // a schedule's length changes no byte
  config_input.hidden_size = input.model.width;
  Result<trainer::ConfigResult> config = trainer::load_config(config_input);
  if (!config) return tl::unexpected(config.error());
  if (options.context > 0) input.context = options.context;
  input.config = config->config;
  input.world_size = options.world_size;
  input.on_gpu = options.device == "cuda" || !options.machine.gpu.empty();
  return Input{std::move(*model), std::move(input)};
}

// The same table for our own engine: units as large as the largest layer.
std::vector<OurRow> our_rows(const Options& options, const DeepspeedInput& deepspeed,
                             const std::optional<EstimateInput>& given) {
  EstimateInput input = given.value_or(EstimateInput());
  input.world_size = options.gpus_per_node * options.nodes;
  input.on_gpu = true;
  if (!given) {
    input.config.micro_batch_size = input.config.gradient_accumulation_steps = 1;
    input.config.dtype = trainer::Dtype::kBf16;
    for (double left = deepspeed.parameters; left > 0; left -= deepspeed.largest_layer_parameters) {
      input.model.units.push_back({.name = "layer",
                                   .trainable = static_cast<std::uint64_t>(
                                       std::min(left, deepspeed.largest_layer_parameters))});
    }
  }
  constexpr std::pair<OffloadDevice, OffloadDevice> kPlaces[] = {
      {OffloadDevice::kNvme, OffloadDevice::kNvme},
      {OffloadDevice::kCpu, OffloadDevice::kNvme},
      {OffloadDevice::kCpu, OffloadDevice::kCpu},
      {OffloadDevice::kNone, OffloadDevice::kCpu},
      {OffloadDevice::kNone, OffloadDevice::kNone}};
  std::vector<OurRow> rows;
  for (const auto& [param, optimizer] : kPlaces) {
    input.config.offload_param.device = param;
    input.config.offload_optimizer.device = optimizer;
    OurRow row{trainer::to_string(param), trainer::to_string(optimizer), {}};
    for (const trainer::MemoryRow& part : trainer::estimate(input).rows) {
      if (part.what != trainer::kActivationsRow && part.what != trainer::kComputeRow &&
          part.what != trainer::kHeapRow) {
        row.held += part.bytes;
      }
    }
    rows.push_back(row);
  }
  return rows;
}

Result<void> run_deepspeed(const Options& options) {
  DeepspeedInput deepspeed{options.parameters, options.largest_layer, options.gpus_per_node,
                           options.nodes};
  std::optional<EstimateInput> given;
  if (!options.model.empty()) {
    auto input = read_input(options);
    if (!input) return tl::unexpected(input.error());
    given = input->training;
    const trainer::ModelShape& shape = given->model;
    if (deepspeed.parameters <= 0) {
      deepspeed.parameters = static_cast<double>(trainer::parameter_count(shape));
    }
    if (options.largest_layer <= 0) {
      const std::uint64_t largest = largest_module_parameters(input->model->tensors());
      deepspeed.largest_layer_parameters = static_cast<double>(largest);
    }
    if (options.parameters > 0 || options.largest_layer > 0) given.reset();
  }
  if (deepspeed.parameters < 1 || deepspeed.largest_layer_parameters < 1 ||
      deepspeed.largest_layer_parameters > deepspeed.parameters ||
      deepspeed.parameters / deepspeed.largest_layer_parameters > 1e6) {
    return make_error(
        ErrorKind::kInvalid, "estimate --deepspeed", "",
        "it wants --model, or --params and --largest-layer (of at least a millionth of "
        "the parameters)");
  }
  print_deepspeed(options.report, deepspeed, our_rows(options, deepspeed, given));
  return {};
}

Result<void> run_plan(const Options& options) {
  if (options.model.empty()) {
    return make_error(ErrorKind::kInvalid, "estimate", "", "--model is required");
  }
  const Result<Input> read = read_input(options);
  if (!read) return tl::unexpected(read.error());
  const EstimateInput& input = read->training;
  const Result<Machine> machine = find_machine(options.machine, input, *read->model);
  if (!machine) return tl::unexpected(machine.error());
  ReportOptions report = options.report;
  report.model = options.model;
  if (options.fit.empty()) {
    print_plan(report, make_plan(input, *machine), *machine);
  } else if (options.fit == "batch") {
    print_largest_batch(report, largest_batch(input, *machine), *machine);
  } else {
    const auto largest = largest_model(*read->model, input, *machine);
    if (!largest) return tl::unexpected(largest.error());
    print_largest_model(report, *largest, *machine);
  }
  return {};
}

void run(const Options& options, int& exit_code) {
  const Result<void> done = options.deepspeed ? run_deepspeed(options) : run_plan(options);
  if (done) return;
  fmt::print(stderr, "spillway estimate: {}\n", error_text(done.error()));
  exit_code = 1;
}

void add_machine_options(CLI::App* command, MachineOptions* machine) {
  const auto speed = [&](const char* name, double* value, const char* what) {
    command->add_option(name, *value, what)->check(CLI::PositiveNumber);
  };
  command->add_option(
      "--gpu", machine->gpu,
      "A GPU by name (h100, h200, a100, rtx4090, l40s, ...): implies --device cuda");
  speed("--flops", &machine->tflops, "TFLOPS of the GPU (or CPU) at best, bf16");
  command
      ->add_option("--efficiency", machine->efficiency,
                   "Share of it that training reaches; 0.4 to 0.6 on large models")
      ->check(CLI::Range(0.01, 1.0))
      ->capture_default_str();
  speed("--pcie-gb-s", &machine->pcie_gb_s, "GB/s between RAM and GPU, each way");
  speed("--gpu-memory-gib", &machine->gpu_memory_gib, "Memory of the GPU");
  command->add_option("--drive", machine->drive, "The drive's speeds: a file of aio_bench --json");
  speed("--read-gb-s", &machine->read_gb_s, "GB/s that the drive reads");
  speed("--write-gb-s", &machine->write_gb_s, "GB/s that it writes");
  speed("--mix-gb-s", &machine->mix_gb_s, "GB/s of both together, as many bytes each way");
  command->add_flag("--measure-drive", machine->measure_drive,
                    "Measure nvme_path for a second (writes 128 MiB to a file without a name)");
  speed("--ram-gib", &machine->ram_gib, "RAM of another machine, instead of what is free here");
  speed("--nvme-gib", &machine->nvme_gib, "Space on its drives");
  command->add_option("--checkpoint-dir", machine->checkpoint_dir,
                      "Count the room of checkpoints there, as train would write them");
  command->add_option("--keep", machine->keep, "Newest checkpoints that stay")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
}

}  // namespace

void add_estimate(CLI::App& program, int& exit_code) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand(
      "estimate",
      "Say what a run will hold in each tier, move, and take per step, before it is started");
  command->add_option("--model", options->model,
                      "A model's name, or a JSON file with GPT-2's keys");
  command->add_option("--config", options->config, "DeepSpeed-style JSON configuration");
  command
      ->add_option("--set", options->overrides,
                   "A configuration key and value, key=value; may repeat")
      ->allow_extra_args(false);
  command->add_option("--world", options->world_size, "Number of ranks")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command->add_option("--context", options->context,
                      "Tokens per sample (0: the model's n_positions)");
  command->add_option("--device", options->device, "Where units run")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  add_machine_options(command, &options->machine);
  command->add_option("--tbw", options->report.rated_terabytes, "Terabytes the drive is rated for")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag(
      "--no-times{false}", options->report.times,
      "Leave out the seconds a step, for which this CPU is measured for some seconds");
  command
      ->add_option("--fit", options->fit, "Find the largest model (parameters) or batch that fits")
      ->check(CLI::IsMember({"parameters", "batch"}));
  command->add_flag("--deepspeed", options->deepspeed,
                    "Print the table of DeepSpeed's memory estimators, and ours beside it");
  command->add_option("--params", options->parameters, "Parameters, for --deepspeed");
  command->add_option("--largest-layer", options->largest_layer, "Parameters of the largest layer");
  command->add_option("--gpus-per-node", options->gpus_per_node, "For --deepspeed")
      ->check(CLI::Range(1, 1024));
  command->add_option("--nodes", options->nodes, "For --deepspeed")->check(CLI::Range(1, 65536));
  command->add_flag("--json", options->report.json, "Print JSON");
  command->footer(
      "Examples:\n"
      "  spillway estimate --model gpt-lite --config nvme.json --set train_batch_size=16\n"
      "  spillway estimate --model gpt-lite --config nvme.json --gpu rtx4090 --drive drive.json\n"
      "  spillway estimate --model gpt-lite --config nvme.json --fit parameters\n"
      "  spillway estimate --deepspeed --params 2851e6 --largest-layer 32e6 --gpus-per-node 8");
  command->callback([options, &exit_code] {
    options->machine.measure_cpu = options->report.times && !options->deepspeed;
    run(*options, exit_code);
  });
}

}  // namespace spillway::tools
