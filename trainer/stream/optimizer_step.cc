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

namespace spillway::trainer {
namespace {

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
    // Padding has no gradient and stays zero, so it may belong to the run before it. A rank may
    // have nothing but padding of a small unit.
    if (work.runs.empty()) work.runs.push_back({0, 0, /*decay=*/false});
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
  if (states_->tiers().device_optimizer() != nullptr) return update_on_device(inputs);
  Trace* const trace = states_->trace();
  auto waiting_since = Trace::Clock::now();
  const auto compute = [&](std::size_t index, std::span<const swapper::PartView> parts) {
    if (trace != nullptr) {
      trace->add(Lane::kWait, "wait for tiles", waiting_since, Trace::Clock::now());
    }
    auto updated = this->compute(work_[index], parts, inputs);
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

// The gradient lies in a third part, or in this rank's part of the unit's.
TileUpdate OptimizerStep::update_of(const TileWork& work, std::span<const swapper::PartView> parts,
                                    const StepInputs& inputs) const {
  TileUpdate update{.format = optimizer_format(states_->config()),
                    .pieces = {},
                    .first_element = work.first_element};
  const std::byte* gradient = nullptr;
  if (parts.size() > 2) {
    update.format.gradients = states_->config().gradients.dtype;
    gradient = parts[2].plane(0);
  } else {
    const at::Tensor& of_unit = inputs.gradients[work.unit];
    const bool half = of_unit.scalar_type() == at::kBFloat16;
    update.format.gradients = half ? Dtype::kBf16 : Dtype::kFp32;
    gradient = static_cast<const std::byte*>(of_unit.const_data_ptr()) +
               work.offset * static_cast<std::uint64_t>(of_unit.element_size());
  }
  const std::uint64_t width = update.format.gradients == Dtype::kBf16 ? 2 : 4;
  for (const DecayRun& run : work.runs) {
    update.pieces.push_back(
        {.offset = run.offset,
         .elements = run.elements,
         .gradient = gradient + run.offset * width,
         .constants = run.decay ? inputs.constants : inputs.constants.without_weight_decay()});
  }
  return update;
}

BackgroundUpdate::Compute OptimizerStep::compute_with(StepInputs inputs) const {
  return [this, inputs = std::move(inputs)](std::size_t index, auto parts) {
    return this->compute(work_[index], parts, inputs);
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

Result<void> OptimizerStep::compute(const TileWork& work, std::span<const swapper::PartView> parts,
                                    const StepInputs& inputs) const {
  if (states_->stop_requested()) {
    return make_error(ErrorKind::kCancelled, "update", "", "a stop was asked for");
  }
  const TraceSpan span(
      states_->trace(), Lane::kOptimizer, "update",
      {.unit = static_cast<std::int32_t>(work.unit), .tile = static_cast<std::int32_t>(work.tile)});
  const auto in_parallel = [](std::uint64_t count, const std::function<void(std::uint64_t)>& task) {
    at::parallel_for(0, static_cast<std::int64_t>(count), 1, [&](std::int64_t begin, auto end) {
      for (std::int64_t i = begin; i < end; ++i) task(static_cast<std::uint64_t>(i));
    });
  };
  return update_tile(update_of(work, parts, inputs), parts, in_parallel);
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

swapper::StreamStats OptimizerStep::update_on_device(const StepInputs& inputs) {
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
    const TileUpdate update = update_of(work, {}, inputs);
    UpdatePlanes planes = update_planes(update.format, address(weight), addresses);
    planes.pieces = update.pieces;
    planes.first_element = work.first_element;
    device.launch_update({}, planes, work.elements, stream);
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
