#include <spillway/trainer/estimate.h>

#include <spillway/aio/check.h>
#include <spillway/swapper/layout.h>
#include <spillway/swapper/schedule.h>
#include <algorithm>
#include <numeric>
#include "trainer/plan/backward_memory.h"
#include "trainer/plan/checkpoint_planes.h"
#include "trainer/plan/optimizer_layout.h"
#include "trainer/plan/partition.h"

namespace spillway::trainer {
namespace {

using swapper::Layout;

std::uint64_t element_bytes(const Config& config) { return config.dtype == Dtype::kBf16 ? 2 : 4; }

// This rank's part of one unit, cut into tiles.
struct UnitTiles {
  std::uint64_t elements = 0;
  std::vector<std::uint64_t> tiles;
};

std::vector<UnitTiles> cut_units(const EstimateInput& input) {
  const std::uint64_t tile = tile_elements(input.config, input.max_tile_elements);
  const std::uint64_t multiple = input.world_size * kParameterAlignment;
  std::vector<UnitTiles> units;
  std::vector<std::uint64_t> sizes = input.unit_elements;
  if (sizes.empty()) {
    for (const UnitSize& size : unit_sizes(input.model)) sizes.push_back(size.parameters);
  }
  for (const std::uint64_t size : sizes) {
    UnitTiles unit;
    unit.elements = (size + multiple - 1) / multiple * kParameterAlignment;
    for (std::uint64_t left = unit.elements; left > 0; left -= unit.tiles.back()) {
      unit.tiles.push_back(std::min(tile, left));
    }
    units.push_back(std::move(unit));
  }
  return units;
}

// A store of tiles: what of it lies on NVMe and what in memory, unit by unit.
struct Store {
  std::vector<std::uint64_t> file_bytes;  // of each unit
  std::uint64_t memory_bytes = 0;
  std::uint64_t largest_tile_bytes = 0;

  std::uint64_t on_file() const {
    return std::accumulate(file_bytes.begin(), file_bytes.end(), std::uint64_t{0});
  }
};

Store place(const std::vector<UnitTiles>& units, const Layout& layout,
            const OffloadConfig& offload) {
  std::vector<std::uint64_t> all;
  for (const UnitTiles& unit : units) all.insert(all.end(), unit.tiles.begin(), unit.tiles.end());
  std::vector<bool> in_memory(all.size(), true);
  if (offload.device == OffloadDevice::kNvme) {
    std::vector<swapper::TileId> order(all.size());
    std::iota(order.begin(), order.end(), swapper::TileId{0});
    const swapper::Schedule schedule(order, static_cast<std::uint32_t>(all.size()));
    // What the machine will have free for "auto" is not known here: nothing, at worst.
    const bool automatic = offload.max_in_cpu_elements == OffloadConfig::kAutoCache;
    in_memory =
        swapper::choose_resident(schedule, all, automatic ? 0 : offload.max_in_cpu_elements);
  }
  Store store;
  std::size_t tile = 0;
  for (const UnitTiles& unit : units) {
    std::uint64_t file_bytes = 0;
    for (const std::uint64_t elements : unit.tiles) {
      const std::uint64_t bytes = layout.tile_bytes(elements);
      (in_memory[tile++] ? store.memory_bytes : file_bytes) += bytes;
      store.largest_tile_bytes = std::max(store.largest_tile_bytes, bytes);
    }
    store.file_bytes.push_back(file_bytes);
  }
  return store;
}

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
  for (const UnitTiles& unit : units) {
    sizes.elements += unit.elements;
    sizes.largest_unit = std::max(sizes.largest_unit, unit.elements * input.world_size);
    sizes.largest_tile = std::max(sizes.largest_tile, unit.tiles.front());
  }
  sizes.weights_bytes = 2 * sizes.largest_unit * element_bytes(input.config);
  GradientConfig config = input.config.gradients;
  if (optimizer_on_device(input)) config.device = OffloadDevice::kCpu;  // on the device, that is
  return plan_gradients(config, sizes, input.ram_bytes - std::min(taken, input.ram_bytes));
}

MemoryRow gradient_row(const EstimateInput& input, const std::vector<UnitTiles>& units,
                       const GradientPlan& plan) {
  MemoryRow row{"gradients", {}};
  std::uint64_t largest = 0;
  for (const UnitTiles& unit : units) largest = std::max(largest, unit.elements);
  // Page-locked whatever pin_memory says of the states, unless they are not offloaded at all.
  const bool offloaded = input.config.offload_optimizer.device != OffloadDevice::kNone;
  (offloaded      ? row.bytes.pinned
   : input.on_gpu ? row.bytes.device
                  : row.bytes.ram) += plan.bytes.ram;
  row.bytes.pinned += plan.bytes.buffers;
  row.bytes.nvme = plan.bytes.nvme;
  // Summed in fp32 before they are rounded or leave; what a tied head adds to, until the end.
  if (plan.device == OffloadDevice::kNvme || input.config.gradients.dtype == Dtype::kBf16) {
    const std::uint64_t tied = input.model.tie_word_embeddings ? units.front().elements : 0;
    (optimizer_on_device(input) ? row.bytes.device : row.bytes.ram) += 4 * (largest + tied);
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
  return place(units, layout, on_nvme).on_file();
}

// Weights of the units that run: the largest unit, and what a tied head borrows beside its own.
// What must be moved is on its way while the unit before runs: as much as the largest unit.
MemoryRow fetched_row(const EstimateInput& input, const std::vector<UnitTiles>& units,
                      const Store& weights) {
  MemoryRow row{"weights in use", {}};
  std::uint64_t most = units.back().elements;
  if (input.model.tie_word_embeddings) most += units.front().elements;
  std::uint64_t largest = 0;
  for (const UnitTiles& unit : units) largest = std::max(largest, unit.elements);
  most = std::max(most, largest);
  const bool copied = input.on_gpu && input.config.offload_param.device != OffloadDevice::kNone;
  if (copied || weights.on_file() > 0) most += largest;
  const std::uint64_t gathered = most * input.world_size + (input.world_size > 1 ? most : 0);
  (input.on_gpu ? row.bytes.device : row.bytes.ram) = gathered * element_bytes(input.config);
  return row;
}

MemoryRow buffer_row(const EstimateInput& input, const std::vector<UnitTiles>& units,
                     const Store& weights, const Store& moments) {
  const auto needs_buffers = [&](const OffloadConfig& offload) {
    return offload.device == OffloadDevice::kNvme ||
           (input.on_gpu && offload.device == OffloadDevice::kNone);
  };
  std::uint64_t most_tiles = 0;
  std::uint64_t all_tiles = 0;
  for (const UnitTiles& unit : units) {
    most_tiles = std::max(most_tiles, unit.tiles.size());
    all_tiles += unit.tiles.size();
  }
  const auto counts = [&](const Store& store) {
    return TileCounts{.tiles = all_tiles,
                      .max_unit_tiles = most_tiles,
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

// Kept by the graph of one unit for so many samples. Of a block: Korthikanti et al., "Reducing
// Activation Recomputation in Large Transformer Models" (2022), equation 1, t = 1:
// s b h (34 + 5 a s / h) bytes at 2 bytes an element.
double block_graph_bytes(const EstimateInput& input, std::uint64_t samples) {
  const GptConfig& model = input.model;
  const double context = static_cast<double>(input.tokens_per_sample());
  return static_cast<double>(samples) * context *
         (34.0 * model.n_embd + 5.0 * model.n_head * context) *
         static_cast<double>(element_bytes(input.config)) / 2;
}

// Every unit's input but the first one's, for the step's whole batch on this rank.
ActivationSizes activation_sizes(const EstimateInput& input) {
  const std::uint64_t samples =
      input.config.micro_batch_size * input.config.gradient_accumulation_steps;
  return {.count = input.model.n_layer + 1u,
          .bytes = samples * input.tokens_per_sample() * input.model.n_embd *
                   element_bytes(input.config),
          .graph_bytes = static_cast<std::uint64_t>(block_graph_bytes(input, samples))};
}

// What waits between the units, and in backward the gradients of one unit's output and input.
MemoryRow activation_row(const EstimateInput& input) {
  const ActivationSizes sizes = activation_sizes(input);
  const WaitingBytes waiting = activation_bytes(input.config.activations, sizes);
  MemoryRow row{kActivationsRow, {}};
  (input.on_gpu ? row.bytes.device : row.bytes.ram) = waiting.computing + 2 * sizes.bytes;
  row.bytes.pinned = waiting.ram + waiting.buffers;
  row.bytes.nvme = waiting.nvme;
  return row;
}

// Inside one unit, for one micro-batch: a block's graph, or of the head logits and their gradient,
// and both in fp32.
MemoryRow compute_row(const EstimateInput& input) {
  const GptConfig& model = input.model;
  const double scale = static_cast<double>(element_bytes(input.config)) / 2;
  const double block = block_graph_bytes(input, input.config.micro_batch_size);
  const double tokens =
      static_cast<double>(input.config.micro_batch_size * input.tokens_per_sample());
  const double head = tokens * model.vocab_size * (4.0 * scale + 8.0);
  MemoryRow row{kComputeRow, {}};
  (input.on_gpu ? row.bytes.device : row.bytes.ram) =
      static_cast<std::uint64_t>(std::max(block, head) * input.compute_scale);
  return row;
}

// What glibc's malloc keeps of freed memory: it unmaps only blocks above the largest that was freed
// so far (32 MiB at most), and gives the end of a heap back only beyond twice that. Such a block is
// the fp32 values of the largest unit; the main thread has a heap, and the other threads. Beside
// that, what comes and goes in a step leaves holes: of one and a half times its size, as found.
MemoryRow heap_row(const std::vector<UnitTiles>& units, std::uint64_t working_bytes) {
  constexpr std::uint64_t kMostMapped = std::uint64_t{32} << 20, kHeaps = 2;
  std::uint64_t largest = 0;
  for (const UnitTiles& unit : units) largest = std::max(largest, unit.elements);
  MemoryRow row{kHeapRow, {}};
  row.bytes.ram = kHeaps * 2 * std::min<std::uint64_t>(4 * largest, kMostMapped);
  row.bytes.ram += working_bytes + working_bytes / 2;
  return row;
}

// Weights are read once in each sweep in which their unit is used; the head's forward leads
// straight into its backward, so that one read serves both. A tied head reads wte's unit too. The
// update in forward order hands the weights to the forward that follows: no other read for it.
// What waits on NVMe is written once and read once.
StepTraffic traffic_of(const EstimateInput& input, const Store& weights, const Store& moments,
                       std::uint64_t gradients) {
  const double all = static_cast<double>(weights.on_file());
  const double embedding = static_cast<double>(weights.file_bytes.front());
  const double head = static_cast<double>(weights.file_bytes.back());
  StepTraffic traffic;
  // What was updated during backward is not handed to the forward: at worst all of it.
  const bool delivered = updates_in_background(input) && !keeps_generations(input.config);
  traffic.forward_read =
      (delivered ? 0.0 : all) + (input.model.tie_word_embeddings ? embedding : 0.0);
  const auto activations =
      static_cast<double>(activation_bytes(input.config.activations, activation_sizes(input)).nvme);
  traffic.forward_written = activations;
  traffic.backward_read = all - head + activations;
  traffic.update_read = traffic.update_written = all + static_cast<double>(moments.on_file());
  traffic.backward_written = static_cast<double>(gradients);
  traffic.update_read += traffic.backward_written;
  return traffic;
}

// Planes as a checkpoint has them: without the padding that tiles on NVMe have.
std::uint64_t checkpoint_bytes_of(const EstimateInput& input, const std::vector<UnitTiles>& units) {
  const CheckpointPlanes planes = checkpoint_planes(optimizer_format(input.config));
  std::uint64_t bytes = 0;
  for (const UnitTiles& unit : units) {
    for (const std::uint64_t elements : unit.tiles) {
      for (const swapper::Plane& plane : planes.all) bytes += plane_bytes(plane, elements);
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
  const Store weights = place(units, weight_layout(config), config.offload_param);
  const Store moments = place(units, optimizer_layout(config), config.offload_optimizer);

  Estimate result;
  result.parameters = parameter_count(input.model);
  for (const UnitTiles& unit : units) result.rank_elements += unit.elements;
  result.tokens_per_step = config.train_batch_size * input.tokens_per_sample();
  result.flops_per_step = flops_per_parameter_and_token(config.activations) *
                          static_cast<double>(result.parameters) *
                          static_cast<double>(result.tokens_per_step);
  result.rows = {store_row("parameters", weights, config.offload_param, input.on_gpu),
                 store_row("moments", moments, config.offload_optimizer, input.on_gpu),
                 buffer_row(input, units, weights, moments)};
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
