#include <spillway/trainer/estimate.h>

#include <spillway/aio/check.h>
#include <spillway/swapper/layout.h>
#include <algorithm>
#include <set>
#include "trainer/plan/backward_memory.h"
#include "trainer/plan/checkpoint_planes.h"
#include "trainer/plan/optimizer_layout.h"
#include "trainer/plan/placed_states.h"
#include "trainer/plan/state_buffers.h"

namespace spillway::trainer {
namespace {

using swapper::Layout;

std::uint64_t element_bytes(const Config& config) { return config.dtype == Dtype::kBf16 ? 2 : 4; }

// Where memory that belongs to a store lies: with the GPU, page-locked, or plain.
std::uint64_t& memory_of(TierBytes& bytes, const OffloadConfig& offload, bool on_gpu) {
  if (offload.device == OffloadDevice::kNone) return on_gpu ? bytes.device : bytes.ram;
  return offload.pin_memory.value_or(true) ? bytes.pinned : bytes.ram;
}

MemoryRow store_row(const char* what, const Store& store, const OffloadConfig& offload,
                    bool on_gpu) {
  MemoryRow row{what, {}};
  memory_of(row.bytes, offload, on_gpu) += store.memory_bytes;
  row.bytes.nvme = store.on_file();
  return row;
}

bool optimizer_on_device(const EstimateInput& input) {
  return input.on_gpu && input.config.offload_optimizer.device == OffloadDevice::kNone;
}

// An update during backward keeps what was there before: in another place on files; in RAM a copy,
// of the weights only.
void add_generations(const EstimateInput& input, const Store& weights, MemoryRow* parameters,
                     MemoryRow* moments) {
  if (!keeps_generations(input.config) || optimizer_on_device(input)) return;
  parameters->bytes.nvme *= 2;
  moments->bytes.nvme *= 2;
  const bool on_device = input.on_gpu && input.config.offload_param.device == OffloadDevice::kNone;
  if (!on_device) parameters->bytes.ram += weights.memory_bytes;
}

// `taken`: of the RAM, before gradients are placed.
GradientPlan gradient_plan(const EstimateInput& input, const std::vector<UnitTiles>& units,
                           std::uint64_t taken) {
  GradientSizes sizes;
  sizes.largest_unit = largest_unit(units) * input.world_size;
  for (const UnitTiles& unit : units) {
    sizes.elements += unit.trainable.elements;
    for (const SectionTiles* section : {&unit.trainable, &unit.frozen}) {
      if (section->tiles.empty()) continue;
      sizes.largest_tile = std::max(sizes.largest_tile, section->tiles.front());
    }
  }
  sizes.weights_bytes = 2 * sizes.largest_unit * element_bytes(input.config);
  GradientConfig config = input.config.gradients;
  if (optimizer_on_device(input)) config.device = OffloadDevice::kCpu;  // on the device, that is
  return plan_gradients(config, sizes, input.ram_bytes - std::min(taken, input.ram_bytes));
}

std::set<std::uint32_t> lenders(const ModelShape& model) {
  std::set<std::uint32_t> all;
  for (const UnitShape& unit : model.units) all.insert(unit.borrows.begin(), unit.borrows.end());
  return all;
}

MemoryRow gradient_row(const EstimateInput& input, const std::vector<UnitTiles>& units,
                       const GradientPlan& plan) {
  MemoryRow row{"gradients", {}};
  std::uint64_t largest = 0;
  for (const UnitTiles& unit : units) largest = std::max(largest, unit.trainable.elements);
  // Page-locked whatever pin_memory says of the states, unless they are not offloaded at all.
  const bool offloaded = input.config.offload_optimizer.device != OffloadDevice::kNone;
  (offloaded      ? row.bytes.pinned
   : input.on_gpu ? row.bytes.device
                  : row.bytes.ram) += plan.bytes.ram;
  row.bytes.pinned += plan.bytes.buffers;
  row.bytes.nvme = plan.bytes.nvme;
  // Summed in fp32 before they are rounded or leave; what a borrower adds to, until the end.
  if (plan.device == OffloadDevice::kNvme || input.config.gradients.dtype == Dtype::kBf16) {
    std::uint64_t lent = 0;
    for (const std::uint32_t lender : lenders(input.model))
      lent += units[lender].trainable.elements;
    (optimizer_on_device(input) ? row.bytes.device : row.bytes.ram) += 4 * (largest + lent);
  }
  // A whole unit's are summed on the device first, and scattered over the ranks from there.
  if ((input.on_gpu && offloaded) || input.world_size > 1) {
    (input.on_gpu ? row.bytes.device : row.bytes.ram) += 4 * largest * (input.world_size + 1);
  }
  return row;
}

// Bytes on NVMe, in tiles as the optimizer's states are cut.
std::uint64_t stored_gradients(const EstimateInput& input, const std::vector<UnitTiles>& units,
                               const GradientPlan& plan) {
  if (plan.device != OffloadDevice::kNvme) return 0;
  const Layout layout({{"gradient", input.config.gradients.dtype == Dtype::kBf16 ? 2u : 4u}});
  OffloadConfig on_nvme;
  on_nvme.device = OffloadDevice::kNvme;
  on_nvme.max_in_cpu_elements = 0;
  return place(units, layout, on_nvme, Kept::kTrainable).on_file();
}

// Weights of the units that run: of one unit, and of those that it borrows from.
// While a unit runs, the next one is in flight: as much as the largest unit.
MemoryRow fetched_row(const EstimateInput& input, const std::vector<UnitTiles>& units,
                      const Store& weights) {
  MemoryRow row{"weights in use", {}};
  std::uint64_t most = 0;
  for (std::size_t i = 0; i < units.size(); ++i) {
    std::uint64_t needed = units[i].elements();
    for (const std::uint32_t lender : input.model.units[i].borrows)
      needed += units[lender].elements();
    most = std::max(most, needed);
  }
  const std::uint64_t largest = largest_unit(units);
  const bool copied = input.on_gpu && input.config.offload_param.device != OffloadDevice::kNone;
  if (copied || weights.on_file() > 0) most += largest;
  const std::uint64_t gathered = most * input.world_size + (input.world_size > 1 ? most : 0);
  (input.on_gpu ? row.bytes.device : row.bytes.ram) = gathered * element_bytes(input.config);
  return row;
}

MemoryRow buffer_row(const EstimateInput& input, const Store& weights, const Store& moments) {
  const auto needs_buffers = [&](const OffloadConfig& offload) {
    return offload.device == OffloadDevice::kNvme ||
           (input.on_gpu && offload.device == OffloadDevice::kNone);
  };
  const auto counts = [&](const Store& store) {
    return TileCounts{.tiles = store.tiles,
                      .max_unit_tiles = store.max_unit_tiles,
                      .largest_bytes = store.largest_tile_bytes};
  };
  MemoryRow row{"buffers", {}};
  const auto add = [&](const OffloadConfig& offload, std::uint64_t bytes) {
    if (!needs_buffers(offload)) return;
    (offload.pin_memory.value_or(true) ? row.bytes.pinned : row.bytes.ram) += bytes;
  };
  add(input.config.offload_param, (weight_buffer_count(input.config, counts(weights)) +
                                   update_buffer_count(input.config, counts(moments))) *
                                      weights.largest_tile_bytes);
  add(input.config.offload_optimizer,
      update_buffer_count(input.config, counts(moments)) * moments.largest_tile_bytes);
  return row;
}

// Kept by the graph of a unit for so many samples, in 16 bits or fp32 as the weights are.
double graph_bytes(const EstimateInput& input, const UnitShape& unit, std::uint64_t samples) {
  const double context = static_cast<double>(input.tokens_per_sample());
  return static_cast<double>(samples) * context *
         (unit.graph_bytes + unit.graph_bytes_per_token * context) *
         static_cast<double>(element_bytes(input.config)) / 2;
}

// What a unit hands to another, for the step's whole batch on this rank.
ActivationSizes activation_sizes(const EstimateInput& input) {
  const std::uint64_t samples =
      input.config.micro_batch_size * input.config.gradient_accumulation_steps;
  const std::uint64_t bytes =
      samples * input.tokens_per_sample() * element_bytes(input.config);  // of a column
  ActivationSizes sizes;
  for (const std::uint64_t width : waiting_widths(input.model))
    sizes.bytes.push_back(width * bytes);
  // The graph of what made it: as large as the largest.
  for (const UnitUse& use : input.model.uses) {
    if (use.output_width == 0) continue;
    const double graph = graph_bytes(input, input.model.units[use.unit], samples);
    sizes.graph_bytes = std::max(sizes.graph_bytes, static_cast<std::uint64_t>(graph));
  }
  return sizes;
}

// What waits between the units, and in backward the gradients of one unit's output and input.
MemoryRow activation_row(const EstimateInput& input) {
  const ActivationSizes sizes = activation_sizes(input);
  const WaitingBytes waiting = activation_bytes(input.config.activations, sizes);
  MemoryRow row{kActivationsRow, {}};
  (input.on_gpu ? row.bytes.device : row.bytes.ram) = waiting.computing + 2 * sizes.largest();
  row.bytes.pinned = waiting.ram + waiting.buffers;
  row.bytes.nvme = waiting.nvme;
  return row;
}

// Inside one unit, for one micro-batch: its graph, and what it computes in fp32.
MemoryRow compute_row(const EstimateInput& input) {
  const double tokens =
      static_cast<double>(input.config.micro_batch_size * input.tokens_per_sample());
  double most = 0;
  for (const UnitShape& unit : input.model.units) {
    const double graph = graph_bytes(input, unit, input.config.micro_batch_size);
    most = std::max(most, graph + tokens * unit.fp32_bytes);
  }
  MemoryRow row{kComputeRow, {}};
  (input.on_gpu ? row.bytes.device : row.bytes.ram) =
      static_cast<std::uint64_t>(most * input.compute_scale);
  return row;
}

// What glibc's malloc keeps of freed memory: it unmaps only blocks above the largest that was freed
// so far (32 MiB at most), and gives the end of a heap back only beyond twice that. Such a block is
// the fp32 values of the largest unit; the main thread has a heap, and the other threads. Beside
// that, what comes and goes in a step leaves holes: of one and a half times its size, as found.
MemoryRow heap_row(const std::vector<UnitTiles>& units, std::uint64_t working_bytes) {
  constexpr std::uint64_t kMostMapped = std::uint64_t{32} << 20, kHeaps = 2;
  const std::uint64_t largest = largest_unit(units);
  MemoryRow row{kHeapRow, {}};
  row.bytes.ram = kHeaps * 2 * std::min<std::uint64_t>(4 * largest, kMostMapped);
  row.bytes.ram += working_bytes + working_bytes / 2;
  return row;
}

// Reads the weights that uses need and that are not in memory: those of the use before stay.
class WeightReads {
 public:
  WeightReads(const ModelShape& model, const Store& weights) : model_(model), weights_(weights) {}

  // What the updates of some units hand over in memory is not read.
  void deliver_all() { delivered_.assign(model_.units.size(), true); }
  double bytes_for(const UnitUse& use) {
    std::set<std::uint32_t> needed(model_.units[use.unit].borrows.begin(),
                                   model_.units[use.unit].borrows.end());
    needed.insert(use.unit);
    double bytes = 0;
    for (const std::uint32_t unit : needed) {
      if (in_memory_.contains(unit)) continue;
      const bool delivered = !delivered_.empty() && delivered_[unit];
      if (delivered) delivered_[unit] = false;  // once
      const Store::FileBytes& on_file = weights_.file_bytes[unit];
      bytes += static_cast<double>(on_file.frozen + (delivered ? 0 : on_file.trainable));
    }
    in_memory_ = std::move(needed);
    return bytes;
  }

 private:
  const ModelShape& model_;
  const Store& weights_;
  std::set<std::uint32_t> in_memory_;
  std::vector<bool> delivered_;
};

// Weights are read once in each sweep in which their unit is used, and again where others were used
// between. The last forward leads straight into its backward, so that one read serves both. The
// update in forward order hands the weights to the forward that follows: no other read for it.
// What waits on NVMe is written once and read once.
StepTraffic traffic_of(const EstimateInput& input, const Store& weights, const Store& moments,
                       std::uint64_t gradients) {
  StepTraffic traffic;
  WeightReads reads(input.model, weights);
  // What was updated during backward is not handed to the forward: at worst all of it.
  if (updates_in_background(input) && !keeps_generations(input.config)) reads.deliver_all();
  const std::vector<UnitUse>& uses = input.model.uses;
  for (const UnitUse& use : uses) traffic.forward_read += reads.bytes_for(use);
  for (auto use = uses.rbegin(); use != uses.rend(); ++use) {
    if (use->has_backward) traffic.backward_read += reads.bytes_for(*use);
  }
  const auto activations =
      static_cast<double>(activation_bytes(input.config.activations, activation_sizes(input)).nvme);
  traffic.forward_written = activations;
  traffic.backward_read += activations;
  traffic.update_read = traffic.update_written =
      static_cast<double>(weights.updated_on_file()) + static_cast<double>(moments.on_file());
  traffic.backward_written = static_cast<double>(gradients);
  traffic.update_read += traffic.backward_written;
  return traffic;
}

// Planes as a checkpoint has them: without the padding that tiles on NVMe have.
std::uint64_t checkpoint_bytes_of(const EstimateInput& input, const std::vector<UnitTiles>& units) {
  const CheckpointPlanes planes = checkpoint_planes(optimizer_format(input.config));
  std::uint64_t bytes = 0;
  for (const UnitTiles& unit : units) {
    for (const std::uint64_t elements : unit.trainable.tiles) {
      for (const swapper::Plane& plane : planes.all) bytes += plane_bytes(plane, elements);
    }
    for (const std::uint64_t elements : unit.frozen.tiles) {
      for (std::size_t i = 0; i < planes.weight_count; ++i) {
        bytes += plane_bytes(planes.all[i], elements);
      }
    }
  }
  return bytes * input.world_size;
}

}  // namespace

TierBytes& TierBytes::operator+=(const TierBytes& other) {
  device += other.device;
  pinned += other.pinned;
  ram += other.ram;
  nvme += other.nvme;
  return *this;
}

Estimate estimate(const EstimateInput& input) {
  SPILLWAY_CHECK(input.world_size > 0, "there is at least one rank");
  SPILLWAY_CHECK(input.config.micro_batch_size > 0, "the configuration comes from load_config");
  const Config& config = input.config;
  const std::vector<UnitTiles> units = cut_units(input);
  const Store weights = place(units, weight_layout(config), config.offload_param, Kept::kAll);
  const Store moments =
      place(units, optimizer_layout(config), config.offload_optimizer, Kept::kTrainable);

  Estimate result;
  result.parameters = parameter_count(input.model);
  for (const UnitTiles& unit : units) {
    result.rank_elements += unit.elements();
    result.trainable_elements += unit.trainable.elements;
  }
  result.tokens_per_step = config.train_batch_size * input.tokens_per_sample();
  result.flops_per_step = flops_per_parameter_and_token(config.activations) *
                          static_cast<double>(result.parameters) *
                          static_cast<double>(result.tokens_per_step);
  result.rows = {store_row("parameters", weights, config.offload_param, input.on_gpu),
                 store_row("moments", moments, config.offload_optimizer, input.on_gpu),
                 buffer_row(input, weights, moments)};
  add_generations(input, weights, &result.rows[0], &result.rows[1]);
  std::uint64_t taken = 0;
  for (const MemoryRow& row : result.rows) taken += row.bytes.pinned + row.bytes.ram;
  const GradientPlan gradients = gradient_plan(input, units, taken);
  result.rows.insert(result.rows.begin() + 2,
                     {gradient_row(input, units, gradients), activation_row(input)});
  const MemoryRow working = compute_row(input);
  result.rows.insert(result.rows.end(), {fetched_row(input, units, weights), working,
                                         heap_row(units, working.bytes.ram)});
  for (const MemoryRow& row : result.rows) result.total += row.bytes;
  result.traffic = traffic_of(input, weights, moments, stored_gradients(input, units, gradients));
  result.checkpoint_bytes = checkpoint_bytes_of(input, units);
  result.generation_bytes = weights.on_file() + moments.on_file();
  return result;
}

bool updates_in_background(const EstimateInput& input) {
  return resolved_update_order(input.config) != UpdateOrder::kAfterBackward &&
         !optimizer_on_device(input);
}

StepTraffic traffic_per_parameter(const Config& config) {
  const double weight = static_cast<double>(element_bytes(config));
  const double moments = bytes_per_element(optimizer_layout(config));
  StepTraffic traffic;
  if (config.offload_param.device == OffloadDevice::kNvme) {
    const bool delivered =
        resolved_update_order(config) != UpdateOrder::kAfterBackward && !keeps_generations(config);
    traffic.forward_read = delivered ? 0 : weight;
    traffic.backward_read = weight;
    traffic.update_read = traffic.update_written = weight;
  }
  if (config.offload_optimizer.device == OffloadDevice::kNvme) {
    traffic.update_read += moments;
    traffic.update_written += moments;
  }
  return traffic;
}

}  // namespace spillway::trainer
