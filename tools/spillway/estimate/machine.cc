#include "tools/spillway/estimate/machine.h"

#include <fmt/format.h>
#include <spillway/aio/path_speed.h>
#include <spillway/aio/probe.h>
#include <spillway/pinned_pool/limits.h>
#include <spillway/trainer/checkpoint.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tools/spillway/estimate/cpu_speed.h"
#include "tools/spillway/estimate/gpu_kinds.h"

namespace spillway::tools {
namespace {

using pinned_pool::MemoryLimits;
using trainer::EstimateInput;
using trainer::OffloadConfig;
using trainer::OffloadDevice;

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

std::set<std::filesystem::path> directories_of(const EstimateInput& input) {
  std::set<std::filesystem::path> directories;
  for (const OffloadConfig* offload :
       {&input.config.offload_param, &input.config.offload_optimizer}) {
    if (offload->device == OffloadDevice::kNvme) directories.insert(offload->nvme_path);
  }
  return directories;
}

// The figures of the first target in a file of aio_bench --json.
Result<trainer::TunedDrive> read_drive(const std::string& path) {
  errno = 0;
  std::ifstream file(path);
  if (!file) return errno_error("read drive", path, errno == 0 ? EIO : errno);
  try {
    const auto root = nlohmann::json::parse(file);
    const auto& target = root.at("targets").at(0);
    const auto& tuned = target.at("aio").at("tuned");
    trainer::TunedDrive drive;
    drive.device = target.at("device").get<std::string>();
    drive.read_gb_per_second = tuned.value("read_gb_per_second", 0.0);
    drive.write_gb_per_second = tuned.value("write_gb_per_second", 0.0);
    drive.mix_gb_per_second = tuned.value("mix_gb_per_second", 0.0);
    return drive;
  } catch (const nlohmann::json::exception&) {
    return make_error(ErrorKind::kInvalid, "read drive", path,
                      "it is no result of aio_bench --json");
  }
}

Result<trainer::TunedDrive> measure_drive(const EstimateInput& input) {
  const std::filesystem::path directory = *directories_of(input).begin();
  auto engine = aio::Engine::create(input.config.aio);
  if (!engine) return tl::unexpected(engine.error());
  const auto speed = aio::measure_path_speed(**engine, directory);
  if (!speed) return tl::unexpected(speed.error());
  trainer::TunedDrive drive;
  drive.device = directory.string() + ", measured for a second";
  drive.read_gb_per_second = speed->read_bytes_per_second / 1e9;
  drive.write_gb_per_second = speed->write_bytes_per_second / 1e9;
  return drive;
}

Result<void> find_drive(const MachineOptions& options, const EstimateInput& input,
                        Machine* machine) {
  const bool needed = !directories_of(input).empty();
  trainer::TunedDrive drive = input.config.tuned;
  std::string source = "the configuration's aio.tuned, " + drive.device;
  if (!options.drive.empty()) {
    auto read = read_drive(options.drive);
    if (!read) return tl::unexpected(read.error());
    drive = *read;
    source = options.drive + ", " + drive.device;
  } else if (options.measure_drive && needed) {
    auto measured = measure_drive(input);
    if (!measured) return tl::unexpected(measured.error());
    drive = *measured;
    source = drive.device;
  }
  const auto given = [&](double value, double* speed) {
    if (value <= 0) return;
    *speed = value;
    source = "given";
  };
  given(options.read_gb_s, &drive.read_gb_per_second);
  given(options.write_gb_s, &drive.write_gb_per_second);
  given(options.mix_gb_s, &drive.mix_gb_per_second);
  machine->speeds.read_bytes = drive.read_gb_per_second * 1e9;
  machine->speeds.write_bytes = drive.write_gb_per_second * 1e9;
  machine->speeds.mixed_bytes = drive.mix_gb_per_second * 1e9;
  if (!needed) return {};
  if (drive.read_gb_per_second > 0) {
    machine->sources.push_back(fmt::format(
        "NVMe {:.2f} GB/s read, {:.2f} write, {} mixed: {}", drive.read_gb_per_second,
        drive.write_gb_per_second,
        drive.mix_gb_per_second > 0 ? fmt::format("{:.2f}", drive.mix_gb_per_second) : "?",
        source));
  } else {
    machine->missing.push_back(
        "the speed of the NVMe drive: --drive FILE (of aio_bench --json), --read-gb-s and "
        "--write-gb-s, or --measure-drive");
  }
  return {};
}

Result<void> find_gpu_speeds(const MachineOptions& options, Machine* machine) {
  trainer::MachineSpeeds& speeds = machine->speeds;
  std::string source = "given";
  double tflops = options.tflops, pcie = options.pcie_gb_s;
  if (!options.gpu.empty()) {
    const GpuKind* kind = find_gpu(options.gpu);
    if (kind == nullptr) {
      std::string names;
      for (const GpuKind& one : gpu_kinds()) names += std::string(" ") + one.name;
      return make_error(ErrorKind::kInvalid, "use --gpu " + options.gpu, "",
                        "it is no GPU known here; give --flops, --pcie-gb-s and --gpu-memory-gib, "
                        "or one of:" +
                            names);
    }
    source = std::string(kind->name) + " by its maker";
    if (tflops <= 0) tflops = kind->bf16_tflops;
    if (pcie <= 0) pcie = kind->pcie_gb_per_second * kPcieReached;
    speeds.device_memory_bytes = kind->memory_gb_per_second * 1e9;
    machine->device_bytes = static_cast<std::uint64_t>(kind->memory_gib * kGiB);
  }
  if (options.gpu_memory_gib > 0) {
    machine->device_bytes = static_cast<std::uint64_t>(options.gpu_memory_gib * kGiB);
  }
  if (tflops <= 0 || pcie <= 0) {
    machine->missing.push_back("the GPU: --gpu NAME, or --flops and --pcie-gb-s");
    return {};
  }
  speeds.flops = tflops * 1e12 * options.efficiency;
  speeds.pcie_bytes = pcie * 1e9;
  machine->sources.push_back(
      fmt::format("compute {:.3g} TFLOPS: {:.4g} ({}) x {:.2f} efficiency (--efficiency); PCIe "
                  "{:.3g} GB/s each "
                  "way",
                  speeds.flops / 1e12, tflops, source, options.efficiency, pcie));
  return {};
}

void find_cpu(const MachineOptions& options, const EstimateInput& input,
              const trainer::ModelConfig& model, Machine* machine) {
  trainer::MachineSpeeds& speeds = machine->speeds;
  if (!options.measure_cpu) {
    machine->missing.push_back("the speed of this CPU (--no-measure)");
    return;
  }
  const CpuSpeed cpu = measure_cpu(input, model);
  speeds.update_bytes = cpu.update_bytes;
  speeds.hash_bytes = cpu.hash_bytes;
  machine->program_bytes = cpu.program_bytes;
  if (cpu.compute_scale > 0 && !input.on_gpu) machine->compute_scale = cpu.compute_scale;
  if (!input.on_gpu) {
    speeds.flops = options.tflops > 0 ? options.tflops * 1e12 * options.efficiency : cpu.flops;
    if (speeds.flops == 0)
      machine->missing.push_back("the speed of this model's units on this CPU");
    machine->sources.push_back(fmt::format("compute {:.3g} GFLOPS: {}", speeds.flops / 1e9,
                                           options.tflops > 0
                                               ? "given, times the efficiency"
                                               : "this CPU, a block and the head, measured"));
  }
  machine->sources.push_back(
      fmt::format("update {:.1f} GB/s of memory, checksums {:.1f} GB/s: this CPU, measured",
                  speeds.update_bytes / 1e9, speeds.hash_bytes / 1e9));
}

void find_room(const MachineOptions& options, const EstimateInput& input, Machine* machine) {
  const MemoryLimits limits = MemoryLimits::read();
  machine->ram_bytes = limits.available_bytes;
  if (limits.cgroup_limit_bytes != MemoryLimits::kUnlimited) {
    const std::uint64_t used = std::min(limits.cgroup_used_bytes, limits.cgroup_limit_bytes);
    machine->ram_bytes = std::min(machine->ram_bytes, limits.cgroup_limit_bytes - used);
  }
  if (options.ram_gib > 0) machine->ram_bytes = static_cast<std::uint64_t>(options.ram_gib * kGiB);
  for (const std::filesystem::path& directory : directories_of(input)) {
    const aio::PathProbe probe = aio::probe_path(directory);
    if (probe.size_bytes > 0) machine->nvme_bytes = std::min(machine->nvme_bytes, probe.free_bytes);
  }
  if (options.nvme_gib > 0)
    machine->nvme_bytes = static_cast<std::uint64_t>(options.nvme_gib * kGiB);
}

// The directory, or what is there of the path to it: it is made when training begins.
std::filesystem::path existing_part(const std::string& directory) {
  std::error_code ignored;
  std::filesystem::path path = std::filesystem::absolute(directory, ignored);
  while (!std::filesystem::exists(path, ignored) && path.has_relative_path()) {
    path = path.parent_path();
  }
  return path;
}

// Links want one filesystem, which is judged as training does: by where the optimizer's states are.
void find_checkpoints(const MachineOptions& options, const EstimateInput& input, Machine* machine) {
  if (options.checkpoint_dir.empty()) return;
  SavedWhere saved{.directory = options.checkpoint_dir, .at_most = options.keep + 1};
  const std::filesystem::path there = existing_part(options.checkpoint_dir);
  std::error_code unknown;
  const std::filesystem::space_info space = std::filesystem::space(there, unknown);
  if (!unknown) saved.free_bytes = space.available;
  const OffloadConfig& states = input.config.offload_optimizer;
  saved.linked =
      states.device == OffloadDevice::kNvme && trainer::can_link(states.nvme_path, there);
  machine->saved = std::move(saved);
}

}  // namespace

Result<Machine> find_machine(const MachineOptions& options, const EstimateInput& input,
                             const trainer::ModelConfig& model) {
  Machine machine;
  if (auto found = find_drive(options, input, &machine); !found) {
    return tl::unexpected(found.error());
  }
  if (input.on_gpu) {
    if (auto found = find_gpu_speeds(options, &machine); !found) {
      return tl::unexpected(found.error());
    }
  }
  find_room(options, input, &machine);
  find_checkpoints(options, input, &machine);
  find_cpu(options, input, model, &machine);
  machine.times_known = machine.speeds.flops > 0 && machine.speeds.update_bytes > 0 &&
                        (!input.on_gpu || machine.speeds.pcie_bytes > 0);
  return machine;
}

}  // namespace spillway::tools
