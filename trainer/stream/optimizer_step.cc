#include "trainer/stream/optimizer_step.h"
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <spillway/aio/check.h>
#include <spillway/trainer/failure.h>
#include "trainer/device/device.h"
#include "trainer/device/device_tier.h"
#include "trainer/plan/optimizer_layout.h"
#include "trainer/plan/update_constants.h"

#include <algorithm>
#include <chrono>
#include <mutex>

namespace spillway::trainer {
namespace {

constexpr std::uint64_t kElementsPerTask = swapper::PartView::kRangeElements;

// The planes of a tile, wherever they are: in host or in device memory. The tile's gradient starts
// `offset` elements into `gradient`.
UpdatePlanes planes_of(const Config& config, std::byte* weight, std::span<std::byte* const> states,
                       const at::Tensor& gradient, std::uint64_t offset) {
  UpdatePlanes planes = update_planes(optimizer_format(config), weight, states);
  planes.format.gradients = gradient.scalar_type() == at::kBFloat16 ? Dtype::kBf16 : Dtype::kFp32;
  planes.gradient = static_cast<const std::byte*>(gradient.const_data_ptr()) +
                    offset * static_cast<std::uint64_t>(gradient.element_size());
  return planes;
}

// Whether the item's update can be rolled back, and is worth it: there is I/O to hide.
bool may_speculate(const swapper::Item& item) {
  const swapper::Part& states = item[1];
  return item.size() == 2 && states.tier->resident(states.tile, 0) == nullptr &&
         std::ranges::all_of(item, [](const swapper::Part& part) {
           return part.tier->keeps_generations(part.tile);
         });
}

}  // namespace

OptimizerStep::OptimizerStep(ModelStates& states, GradientStore& gradients)
    : states_(&states), gradients_(&gradients) {
  for (UnitId unit = 0; unit < states.units().size(); ++unit) plan_unit(unit);
  std::vector<UpdateItem> items;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    items.push_back({work_[i].unit, work_[i].tile, items_[i], may_speculate(items_[i])});
    can_speculate_ = can_speculate_ || items.back().may_speculate;
  }
  background_ = std::make_unique<BackgroundUpdate>(std::move(items), states.units().size());
}

void OptimizerStep::plan_unit(UnitId id) {
  const auto& unit = states_->units()[id];
  StateTiers& tiers = states_->tiers();
  swapper::TileId tile = unit.first_tile;
  swapper::TileId optimizer_tile = unit.first_optimizer_tile;
  std::uint32_t trainable_tile = 0;
  for (const TileSpan& span : unit.partition.tiles()) {
    const swapper::TileId weight_tile = tile++;
    if (span.section == kFrozen) continue;
    items_.push_back(
        {{&tiers.weights(), weight_tile, tiers.weights().layout().all(),
          swapper::Access::kReadWrite, tiers.update_weight_pool(), swapper::Checksums::kInCompute},
         {&tiers.optimizer(), optimizer_tile++, tiers.optimizer().layout().all(),
          swapper::Access::kReadWrite, tiers.optimizer_pool(), swapper::Checksums::kInCompute}});
    // Gradients on NVMe are a third part, which is read with the others.
    if (const auto gradient = gradients_->stored_part(id, trainable_tile++)) {
      items_.back().push_back(*gradient);
    }
    TileWork work{id, weight_tile - unit.first_tile, span.offset, span.elements, {}};
    // The same for any number of ranks; units far apart.
    const std::uint64_t of_part =
        states_->communicator().rank() * unit.partition.part_elements(kTrainable);
    work.first_element = static_cast<std::uint32_t>(id * 0x9e3779b9u + of_part + span.offset);
    for (const Segment& segment : span.segments) {
      const bool decay = unit.partition.parameters()[segment.parameter].decay;
      if (!work.runs.empty() && work.runs.back().decay == decay) continue;
      work.runs.push_back({segment.tile_offset, 0, decay});
    }
    // Padding has no gradient and stays zero, so it may belong to the run before it.
    for (std::size_t i = 0; i < work.runs.size(); ++i) {
      const bool last = i + 1 == work.runs.size();
      work.runs[i].elements =
          (last ? span.elements : work.runs[i + 1].offset) - work.runs[i].offset;
    }
    work_.push_back(std::move(work));
  }
}

float OptimizerStep::clip_factor(double norm, double max_norm) {
  if (max_norm <= 0) return 1.0f;
  return static_cast<float>(std::min(1.0, max_norm / (norm + 1e-6)));
}

OptimizerStep::StepInputs OptimizerStep::inputs_of(std::uint64_t step, double learning_rate,
                                                   float grad_scale) const {
  StepInputs inputs{update_constants(states_->config(), step, learning_rate, grad_scale), {}};
  if (gradients_->on_nvme()) return inputs;
  for (UnitId unit = 0; unit < states_->units().size(); ++unit) {
    inputs.gradients.push_back(gradients_->part(unit));
  }
  return inputs;
}

swapper::StreamStats OptimizerStep::update(std::uint64_t step, double learning_rate,
                                           float grad_scale) {
  require_intact();
  const StepInputs inputs = inputs_of(step, learning_rate, grad_scale);
  if (states_->tiers().device_optimizer() != nullptr) return update_on_device(inputs.constants);
  Trace* const trace = states_->trace();
  auto waiting_since = Trace::Clock::now();
  const auto compute = [&](std::size_t index, std::span<const swapper::PartView> parts) {
    if (trace != nullptr) {
      trace->add(Lane::kWait, "wait for tiles", waiting_since, Trace::Clock::now());
    }
    auto updated = update_tile(work_[index], parts, inputs);
    waiting_since = Trace::Clock::now();
    return updated;
  };
  auto updated = swapper::TileStream::run(items_, compute);
  if (!updated && updated.error().kind == ErrorKind::kCancelled) throw Interrupted();
  if (!updated) failed_ = updated.error();
  return value_or_throw(std::move(updated));
}

void OptimizerStep::require_intact() const {
  if (failed_) throw Failure(*failed_);
}

// Of the tile, in the format in which it waited.
at::Tensor OptimizerStep::gradient_of(const TileWork& work,
                                      std::span<const swapper::PartView> parts,
                                      const StepInputs& inputs) const {
  const auto elements = static_cast<std::int64_t>(work.elements);
  if (parts.size() < 3) {
    return inputs.gradients[work.unit].narrow(0, static_cast<std::int64_t>(work.offset), elements);
  }
  const bool half = states_->config().gradients.dtype == Dtype::kBf16;
  return at::from_blob(parts[2].plane(0), {elements},
                       at::TensorOptions().dtype(half ? at::kBFloat16 : at::kFloat));
}

BackgroundUpdate::Compute OptimizerStep::compute_with(StepInputs inputs) const {
  return [this, inputs = std::move(inputs)](std::size_t index, auto parts) {
    return update_tile(work_[index], parts, inputs);
  };
}

void OptimizerStep::start_speculative(std::uint64_t step, double learning_rate,
                                      const std::vector<UnitId>& order) {
  background_->start_speculative(compute_with(inputs_of(step, learning_rate, /*grad_scale=*/1.0f)),
                                 order);
}

BackgroundUpdate::SpeculativeTiles OptimizerStep::start(std::uint64_t step, double learning_rate,
                                                        float grad_scale,
                                                        const std::vector<UnitId>& order) {
  const bool as_expected = grad_scale == 1.0f;  // by start_speculative
  return background_->start(compute_with(inputs_of(step, learning_rate, grad_scale)), order,
                            as_expected ? Verdict::kKeep : Verdict::kRollBack);
}

Result<void> OptimizerStep::update_tile(const TileWork& work,
                                        std::span<const swapper::PartView> parts,
                                        const StepInputs& inputs) const {
  if (states_->stop_requested()) {
    return make_error(ErrorKind::kCancelled, "update", "", "a stop was asked for");
  }
  const TraceSpan span(
      states_->trace(), Lane::kOptimizer, "update",
      {.unit = static_cast<std::int32_t>(work.unit), .tile = static_cast<std::int32_t>(work.tile)});
  std::vector<std::byte*> states(states_->tiers().optimizer().layout().plane_count());
  for (std::uint32_t i = 0; i < states.size(); ++i) states[i] = parts[1].plane(i);
  UpdatePlanes planes = planes_of(states_->config(), parts[0].plane(0), states,
                                  gradient_of(work, parts, inputs), /*offset=*/0);
  planes.runs = work.runs;
  planes.first_element = work.first_element;
  const std::uint64_t tasks = (work.elements + kElementsPerTask - 1) / kElementsPerTask;
  std::mutex mutex;
  Result<void> outcome;
  at::parallel_for(0, static_cast<std::int64_t>(tasks), 1, [&](std::int64_t begin, auto end) {
    for (auto task = static_cast<std::uint64_t>(begin); task < std::uint64_t(end); ++task) {
      const std::uint64_t first = task * kElementsPerTask;
      const std::uint64_t count = std::min(kElementsPerTask, work.elements - first);
      auto updated = update_verified(inputs.constants, planes, parts, first, count);
      if (updated) continue;
      const std::lock_guard lock(mutex);
      outcome = std::move(updated);
    }
  });
  return outcome;
}

// What was read is verified, and what will be written is hashed, in the one pass of the update
// where the part takes that, else while it is in the cache.
Result<void> OptimizerStep::update_verified(const UpdateConstants& constants,
                                            const UpdatePlanes& planes,
                                            std::span<const swapper::PartView> parts,
                                            std::uint64_t first, std::uint64_t count) {
  const auto takes_hashes = [](const swapper::PartView& part) { return part.takes_hashes(); };
  for (const swapper::PartView& part : parts) {
    if (takes_hashes(part)) continue;
    if (auto verified = part.verify(first, count); !verified) return verified;
  }
  if (std::ranges::any_of(parts, takes_hashes)) {
    return update_hashed(constants, planes, parts, first, count);
  }
  update_range(constants, planes, first, count);
  for (const swapper::PartView& part : parts) part.record(first, count);
  return {};
}

Result<void> OptimizerStep::update_hashed(const UpdateConstants& constants,
                                          const UpdatePlanes& planes,
                                          std::span<const swapper::PartView> parts,
                                          std::uint64_t first, std::uint64_t count) {
  UpdateHashes before, after;
  update_range(constants, planes, first, count, before, after);
  const swapper::ElementRange range{.first = first, .count = count};
  const auto of_part = [&](std::size_t i, const UpdateHashes& hashes) {
    return i == 0 ? weight_hashes(hashes) : state_hashes(hashes, planes.format);
  };
  // All of it first: nothing is recorded of what was made of damaged bytes.
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (!parts[i].takes_hashes()) continue;
    if (auto verified = parts[i].verify(range, of_part(i, before)); !verified) return verified;
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].takes_hashes()) {
      parts[i].record(range, of_part(i, after));
    } else {
      parts[i].record(first, count);
    }
  }
  return {};
}

namespace {

// A weight tile that lives in host memory or on files, brought to a Lease as a flat byte tensor.
at::Tensor fetch_weight(const swapper::Part& part, pinned_pool::Lease* lease) {
  const auto bytes = static_cast<std::int64_t>(
      part.tier->layout().range_bytes(part.planes, part.tier->tile_elements(part.tile)));
  const auto options = at::TensorOptions().dtype(at::kByte);
  if (std::byte* resident = part.tier->resident(part.tile, 0)) {
    return at::from_blob(resident, {bytes}, options);
  }
  *lease = value_or_throw(part.tier->read(part.tile, part.planes, part.pool->acquire()).wait());
  return at::from_blob(lease->data(), {bytes}, options);
}

void store_weight(const swapper::Part& part, const DeviceKind& device, const at::Tensor& host,
                  const at::Tensor& updated, pinned_pool::Lease lease) {
  device.copy(host, updated);
  if (!lease) return;
  value_or_throw(part.tier->write(part.tile, part.planes, std::move(lease)).wait());
}

}  // namespace

swapper::StreamStats OptimizerStep::update_on_device(const UpdateConstants& constants) {
  const auto start = std::chrono::steady_clock::now();
  StateTiers& tiers = states_->tiers();
  const DeviceKind& device = states_->device_kind();
  // Backward made the gradients on it.
  const c10::Stream stream = device.current_stream(states_->device());
  for (std::size_t i = 0; i < work_.size(); ++i) {
    const TileWork& work = work_[i];
    const swapper::Part& weight_part = items_[i][0];
    const swapper::TileId optimizer_tile = items_[i][1].tile;
    pinned_pool::Lease lease;
    at::Tensor host;
    at::Tensor weight;
    if (tiers.device_weights() != nullptr) {
      weight = tiers.device_weights()->device_plane(weight_part.tile, 0);
    } else {
      host = fetch_weight(weight_part, &lease);
      weight = device.empty(host.sizes(), host.options().device(states_->device()));
      device.copy(weight, host);
    }
    const auto address = [](const at::Tensor& bytes) {
      return static_cast<std::byte*>(bytes.data_ptr());
    };
    std::vector<std::byte*> addresses(tiers.optimizer().layout().plane_count());
    for (std::uint32_t plane = 0; plane < addresses.size(); ++plane) {
      addresses[plane] = address(tiers.device_optimizer()->device_plane(optimizer_tile, plane));
    }
    UpdatePlanes planes = planes_of(states_->config(), address(weight), addresses,
                                    gradients_->part(work.unit), work.offset);
    planes.runs = work.runs;
    planes.first_element = work.first_element;
    device.launch_update(constants, planes, work.elements, stream);
    if (tiers.device_weights() == nullptr) {
      store_weight(weight_part, device, host, weight, std::move(lease));
    }
  }
  swapper::StreamStats stats;
  stats.compute_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return stats;
}

}  // namespace spillway::trainer
