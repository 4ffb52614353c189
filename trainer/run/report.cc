// What a Run says of its states: where they are, what they take, what moved.
#include <spillway/trainer/estimate.h>
#include <spillway/trainer/run.h>

#include <algorithm>
#include <string>

#include "trainer/run/model_in_use.h"
#include "trainer/states/model_states.h"
#include "trainer/states/state_tiers.h"
#include "trainer/stream/activation_store.h"
#include "trainer/stream/gradient_store.h"
#include "trainer/stream/weight_fetcher.h"

namespace spillway::trainer {
namespace {

std::string place(const OffloadConfig& offload, const swapper::Tier& tier) {
  if (offload.device != OffloadDevice::kNvme) return tier.name();
  return tier.name() == std::string("nvme") ? "nvme" : "nvme, part cached";
}

HeldBytes held_by(const swapper::Tier& tier, const char* what, const OffloadConfig& offload) {
  return {what, place(offload, tier), tier.memory_bytes(), tier.storage_bytes()};
}

HeldBytes held_activations(const RunInput& input, const ModelInUse& model, ZeroEngine& engine) {
  const Config& config = input.config;
  const ActivationStore& activations = engine.activations();
  if (config.activations.checkpointing && config.activations.device != OffloadDevice::kNone) {
    return {"activations", to_string(config.activations.device),
            activations.peak_computing_bytes() + activations.memory_bytes(),
            activations.storage_bytes()};
  }
  // Kept from forward to backward, for this rank's share of the batch.
  const std::uint64_t samples =
      config.train_batch_size / engine.states().communicator().world_size();
  const std::uint64_t element = config.dtype == Dtype::kBf16 ? 2 : 4;
  const char* graph = config.activations.checkpointing ? "" : ", beside the graph";
  return {"activations", input.device.str() + graph,
          samples * input.context * element * model.boundary_elements(), 0};
}

StepTraffic expected_traffic(const Config& config, ZeroEngine& engine) {
  const ModelStates& states = engine.states();
  StepTraffic per = traffic_per_parameter(config);
  if (engine.gradients().on_nvme()) {
    const bool half = config.gradients.dtype == Dtype::kBf16;
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

NumberRange ranks_of(const UnitPartition& partition, std::size_t parameter) {
  const ParameterInfo& info = partition.parameters()[parameter];
  const std::uint64_t part = partition.part_elements(info.frozen ? kFrozen : kTrainable);
  const std::uint64_t first = partition.parameter_offset(parameter);
  return {static_cast<std::uint32_t>(first / part),
          static_cast<std::uint32_t>((first + info.elements - 1) / part)};
}

std::optional<NumberRange> tiles_of(const ModelStates::UnitState& unit, std::size_t parameter) {
  std::optional<NumberRange> range;
  for (std::uint32_t i = 0; i < unit.partition.tiles().size(); ++i) {
    const std::uint32_t tile = unit.first_tile + i;
    for (const Segment& segment : unit.partition.tiles()[i].segments) {
      if (segment.parameter != parameter) continue;
      range = NumberRange{.first = std::min(range ? range->first : tile, tile), .last = tile};
    }
  }
  return range;
}

}  // namespace

void RunTotals::add(const StepReport& report) {
  ++steps;
  add_rest(report);
}

void RunTotals::add_rest(const StepReport& report) {
  nvme_read_bytes += report.nvme_read_bytes;
  nvme_written_bytes += report.nvme_written_bytes;
  seconds += report.seconds;
  compute_seconds += report.compute_seconds;
  io_wait_seconds += report.io_wait_seconds;
}

std::uint64_t Run::parameter_count() const { return engine_->parameter_count(); }

std::size_t Run::unit_count() const { return engine_->states().units().size(); }

const std::vector<std::string>& Run::placement_notes() const {
  return engine_->states().tiers().notes();
}

RunSummary Run::summary() const {
  const Config& config = input_.config;
  const StateTiers& tiers = engine_->states().tiers();
  const GradientStore& gradients = engine_->gradients();
  const StepTraffic expected = expected_traffic(config, *engine_);
  return {
      .held = {held_by(tiers.weights(), "parameters", config.offload_param),
               held_by(tiers.optimizer(), "optimizer states", config.offload_optimizer),
               {"gradients", gradients.on_nvme() ? "nvme" : "cpu",
                gradients.memory_bytes() + gradients.peak_sum_bytes(), gradients.storage_bytes()},
               held_activations(input_, *model_, *engine_),
               {"weights in use", input_.device.str(), engine_->fetcher().peak_resident_bytes(), 0},
               {"I/O buffers", tiers.buffers_pinned() ? "cpu, pinned" : "cpu, not pinned",
                tiers.buffer_bytes(), 0}},
      .parameters = parameter_count(),
      .world_size = ranks_.world_size(),
      .totals = totals_,
      .expected_read_bytes = expected.read(),
      .expected_written_bytes = expected.written()};
}

MemoryMap Run::memory_map() const {
  const ModelStates& states = engine_->states();
  MemoryMap map{.details = states.tiers().details(), .parameters = {}};
  for (const ModelStates::UnitState& unit : states.units()) {
    for (std::size_t i = 0; i < unit.partition.parameters().size(); ++i) {
      const ParameterInfo& info = unit.partition.parameters()[i];
      map.parameters.push_back({.name = unit.partition.name() + "." + info.name,
                                .unit = unit.partition.name(),
                                .elements = info.elements,
                                .tiles = tiles_of(unit, i),
                                .ranks = ranks_of(unit.partition, i),
                                .frozen = info.frozen});
    }
  }
  return map;
}

}  // namespace spillway::trainer
