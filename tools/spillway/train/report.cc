#include "tools/spillway/train/report.h"
#include "trainer/states/model_states.h"
#include "trainer/stream/activation_store.h"
#include "trainer/stream/gradient_store.h"
#include "trainer/stream/weight_fetcher.h"

#include <fmt/format.h>
#include <spillway/pinned_pool/limits.h>
#include <spillway/trainer/estimate.h>

#include <algorithm>
#include <string>

namespace spillway::tools {
namespace {

using pinned_pool::format_bytes;
using trainer::ModelStates;
using trainer::OffloadDevice;

// Boundary activations kept from forward to backward for this rank's share of the batch.
std::uint64_t activation_bytes(const TrainInputs& inputs, std::uint32_t world_size) {
  const trainer::GptConfig& model = inputs.model;
  const std::uint64_t samples = inputs.config.config.train_batch_size / world_size;
  const std::uint64_t element = inputs.config.config.dtype == trainer::Dtype::kBf16 ? 2 : 4;
  return samples * inputs.context * model.n_embd * element * (model.n_layer + 1);
}

void line(const std::string& what, const std::string& where, std::uint64_t memory,
          std::uint64_t storage) {
  const auto cell = [](std::uint64_t bytes) {
    return bytes == 0 ? std::string("-") : format_bytes(bytes);
  };
  fmt::print("  {:<18}{:<22}{:>12}{:>12}\n", what, where, cell(memory), cell(storage));
}

std::string place(const trainer::OffloadConfig& offload, const swapper::Tier& tier) {
  if (offload.device != OffloadDevice::kNvme) return tier.name();
  return tier.name() == std::string("nvme") ? "nvme" : "nvme, part cached";
}

void print_tiers(const TrainInputs& inputs, const trainer::ZeroEngine& engine) {
  const trainer::Config& config = inputs.config.config;
  const ModelStates& states = engine.states();
  const trainer::StateTiers& tiers = states.tiers();
  const std::uint32_t world = states.communicator().world_size();
  fmt::print("  {:<18}{:<22}{:>12}{:>12}\n", "held by this rank", "where", "memory", "storage");
  line("parameters", place(config.offload_param, tiers.weights()), tiers.weights().memory_bytes(),
       tiers.weights().storage_bytes());
  line("optimizer states", place(config.offload_optimizer, tiers.optimizer()),
       tiers.optimizer().memory_bytes(), tiers.optimizer().storage_bytes());
  const trainer::GradientStore& gradients = engine.gradients();
  line("gradients", gradients.on_nvme() ? "nvme" : "cpu",
       gradients.memory_bytes() + gradients.peak_sum_bytes(), gradients.storage_bytes());
  const trainer::ActivationStore& activations = engine.activations();
  if (config.activations.checkpointing && config.activations.device != OffloadDevice::kNone) {
    line("activations", to_string(config.activations.device),
         activations.peak_computing_bytes() + activations.memory_bytes(),
         activations.storage_bytes());
  } else {
    const char* graph = config.activations.checkpointing ? "" : ", beside the graph";
    line("activations", inputs.device.str() + graph, activation_bytes(inputs, world), 0);
  }
  line("weights in use", inputs.device.str(), engine.fetcher().peak_resident_bytes(), 0);
  line("I/O buffers", "cpu, pinned", tiers.buffer_bytes(), 0);
}

trainer::StepTraffic theory(const TrainInputs& inputs, const trainer::ZeroEngine& engine) {
  const ModelStates& states = engine.states();
  trainer::StepTraffic per = trainer::traffic_per_parameter(inputs.config.config);
  if (engine.gradients().on_nvme()) {
    const bool half = inputs.config.config.gradients.dtype == trainer::Dtype::kBf16;
    per.update_read += half ? 2 : 4;
    per.backward_written += half ? 2 : 4;
  }
  const auto all = static_cast<double>(states.parameter_count());
  const auto trainable = static_cast<double>(states.trainable_parameter_count());
  const double share = 1.0 / states.communicator().world_size();
  const auto activations = static_cast<double>(engine.activations().storage_bytes());
  return {.forward_read = per.forward_read * all * share,
          .backward_read = per.backward_read * all * share + activations,
          .update_read = per.update_read * trainable * share,
          .update_written = per.update_written * trainable * share,
          .forward_written = activations,
          .backward_written = per.backward_written * trainable * share};
}

void print_traffic(const TrainInputs& inputs, const trainer::ZeroEngine& engine,
                   const RunTotals& totals) {
  const trainer::StepTraffic expected = theory(inputs, engine);
  const auto steps = static_cast<double>(totals.steps);
  const auto parameters =
      static_cast<double>(engine.parameter_count()) / engine.states().communicator().world_size();
  fmt::print("\n  {:<18}{:>12}{:>14}{:>12}{:>14}\n", "NVMe per step", "moved", "a parameter",
             "theory", "a parameter");
  const auto row = [&](const char* what, double moved, double wanted) {
    fmt::print("  {:<18}{:>12}{:>12.2f} B{:>12}{:>12.2f} B\n", what,
               format_bytes(static_cast<std::uint64_t>(moved)), moved / parameters,
               format_bytes(static_cast<std::uint64_t>(wanted)), wanted / parameters);
  };
  row("read", static_cast<double>(totals.nvme_read_bytes) / steps, expected.read());
  row("written", static_cast<double>(totals.nvme_written_bytes) / steps, expected.written());
}

std::string ranks_of(const trainer::UnitPartition& partition, std::size_t parameter) {
  const trainer::ParameterInfo& info = partition.parameters()[parameter];
  const std::uint64_t part =
      partition.part_elements(info.frozen ? trainer::kFrozen : trainer::kTrainable);
  const std::uint64_t first = partition.parameter_offset(parameter) / part;
  const std::uint64_t last = (partition.parameter_offset(parameter) + info.elements - 1) / part;
  return first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
}

std::string tiles_of(const ModelStates::UnitState& unit, std::size_t parameter) {
  std::uint32_t first = ~0u, last = 0;
  for (std::uint32_t i = 0; i < unit.partition.tiles().size(); ++i) {
    for (const trainer::Segment& segment : unit.partition.tiles()[i].segments) {
      if (segment.parameter != parameter) continue;
      first = std::min(first, unit.first_tile + i);
      last = unit.first_tile + i;
    }
  }
  if (first == ~0u) return "-";
  return first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
}

}  // namespace

void RunTotals::add(const trainer::StepReport& report) {
  ++steps;
  add_rest(report);
}

void RunTotals::add_rest(const trainer::StepReport& report) {
  nvme_read_bytes += report.nvme_read_bytes;
  nvme_written_bytes += report.nvme_written_bytes;
  seconds += report.seconds;
  compute_seconds += report.compute_seconds;
  io_wait_seconds += report.io_wait_seconds;
}

void print_summary(const TrainInputs& inputs, const trainer::ZeroEngine& engine,
                   const RunTotals& totals) {
  fmt::print("\n");
  print_tiers(inputs, engine);
  if (totals.steps > 0) {
    const auto steps = static_cast<double>(totals.steps);
    print_traffic(inputs, engine, totals);
    fmt::print("\n  {:<18}{:>10.3f} s a step: computing {:.3f} s, waiting for I/O {:.3f} s\n",
               "time", totals.seconds / steps, totals.compute_seconds / steps,
               totals.io_wait_seconds / steps);
  }
  const auto usage = pinned_pool::memory_usage();
  const auto states = 16 * engine.parameter_count();
  fmt::print("  {:<18}{:>12} (all states, 16 B a parameter: {})\n", "peak memory",
             format_bytes(usage.peak_resident_bytes), format_bytes(states));
}

void print_memory_report(const TrainInputs& inputs, const trainer::ZeroEngine& engine) {
  const ModelStates& states = engine.states();
  fmt::print("\nmemory report of rank {} of {}\n", states.communicator().rank(),
             states.communicator().world_size());
  if (states.communicator().rank() > 0) print_tiers(inputs, engine);  // rank 0 has shown its own
  for (const std::string& detail : states.tiers().details()) fmt::print("  {}\n", detail);
  fmt::print("\n  {:<40}{:<18}{:>12}{:>10}{:>8}\n", "parameter", "unit", "elements", "tiles",
             "ranks");
  for (const ModelStates::UnitState& unit : states.units()) {
    for (std::size_t i = 0; i < unit.partition.parameters().size(); ++i) {
      const trainer::ParameterInfo& info = unit.partition.parameters()[i];
      fmt::print("  {:<40}{:<18}{:>12}{:>10}{:>8}{}\n", unit.partition.name() + "." + info.name,
                 unit.partition.name(), info.elements, tiles_of(unit, i),
                 ranks_of(unit.partition, i), info.frozen ? "  frozen" : "");
    }
  }
}

}  // namespace spillway::tools
