#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <spillway/aio/check.h>
#include <spillway/trainer/device_tier.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/optimizer_step.h>
#ifdef SPILLWAY_CUDA
#include <spillway/trainer/adam_cuda.h>
#endif

#include <algorithm>
#include <chrono>

namespace spillway::trainer {
namespace {

constexpr std::int64_t kElementsPerTask = 1 << 14;

std::uint16_t* as_half(std::byte* plane) { return reinterpret_cast<std::uint16_t*>(plane); }
float* as_float(std::byte* plane) { return reinterpret_cast<float*>(plane); }

// The planes of a tile, wherever they are: in host or in device memory.
struct TilePlanes {
  std::byte* weight;
  std::byte* states[3];  // in the order of the optimizer's Layout
};

AdamPlanesBf16 bf16_planes(const TilePlanes& tile, const float* gradient, std::uint64_t offset) {
  return {as_half(tile.weight) + offset, as_half(tile.states[0]) + offset,
          as_float(tile.states[1]) + offset, as_float(tile.states[2]) + offset, gradient + offset};
}

AdamPlanesFp32 fp32_planes(const TilePlanes& tile, const float* gradient, std::uint64_t offset) {
  return {as_float(tile.weight) + offset, as_float(tile.states[0]) + offset,
          as_float(tile.states[1]) + offset, gradient + offset};
}

}  // namespace

OptimizerStep::OptimizerStep(ModelStates& states) : states_(&states) {
  for (UnitId unit = 0; unit < states.units().size(); ++unit) plan_unit(unit);
}

void OptimizerStep::plan_unit(UnitId id) {
  const auto& unit = states_->units()[id];
  StateTiers& tiers = states_->tiers();
  swapper::TileId tile = unit.first_tile;
  swapper::TileId optimizer_tile = unit.first_optimizer_tile;
  for (const TileSpan& span : unit.partition.tiles()) {
    const swapper::TileId weight_tile = tile++;
    if (span.section == kFrozen) continue;
    items_.push_back({{&tiers.weights(), weight_tile, tiers.weights().layout().all(),
                       swapper::Access::kReadWrite, tiers.weight_pool()},
                      {&tiers.optimizer(), optimizer_tile++, tiers.optimizer().layout().all(),
                       swapper::Access::kReadWrite, tiers.optimizer_pool()}});
    TileWork work{id, span.offset, span.elements, {}};
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

swapper::StreamStats OptimizerStep::update(GradientStore& gradients, std::uint64_t step,
                                           double learning_rate, float grad_scale) {
  const OptimizerConfig& optimizer = states_->config().optimizer;
  AdamOptions options{learning_rate, optimizer.beta1, optimizer.beta2, optimizer.epsilon,
                      optimizer.weight_decay};
  AdamConstants constants[2];  // without and with weight decay
  constants[1] = AdamConstants::at_step(options, step, grad_scale);
  options.weight_decay = 0;
  constants[0] = AdamConstants::at_step(options, step, grad_scale);
  if (states_->tiers().device_optimizer() != nullptr) return update_on_device(gradients, constants);

  const auto compute = [&](std::size_t index,
                           std::span<const swapper::PartView> parts) -> Result<void> {
    if (states_->stop_requested()) {
      return make_error(ErrorKind::kCancelled, "update", "", "a stop was asked for");
    }
    const TileWork& work = work_[index];
    const float* gradient = gradients.part(work.unit).const_data_ptr<float>() + work.offset;
    return update_tile(work, parts, gradient, constants);
  };
  auto updated = swapper::TileStream::run(items_, compute);
  if (!updated && updated.error().kind == ErrorKind::kCancelled) throw Interrupted();
  return value_or_throw(std::move(updated));
}

Result<void> OptimizerStep::update_tile(const TileWork& work,
                                        std::span<const swapper::PartView> parts,
                                        const float* gradient,
                                        const AdamConstants constants[2]) const {
  const bool split = states_->config().dtype == Dtype::kBf16;
  TilePlanes tile{parts[0].plane(0), {}};
  for (std::uint32_t i = 0; i < (split ? 3u : 2u); ++i) tile.states[i] = parts[1].plane(i);
  for (const TileWork::Run& run : work.runs) {
    const AdamConstants& with = constants[run.decay ? 1 : 0];
    const auto begin = static_cast<std::int64_t>(run.offset);
    const auto end = static_cast<std::int64_t>(run.offset + run.elements);
    at::parallel_for(begin, end, kElementsPerTask, [&](std::int64_t first, std::int64_t last) {
      const auto count = static_cast<std::size_t>(last - first);
      if (split) {
        adam_update(with, bf16_planes(tile, gradient, first), count);
      } else {
        adam_update(with, fp32_planes(tile, gradient, first), count);
      }
    });
  }
  return {};
}

#ifdef SPILLWAY_CUDA
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

void store_weight(const swapper::Part& part, const at::Tensor& host, const at::Tensor& updated,
                  pinned_pool::Lease lease) {
  host.copy_(updated);
  if (!lease) return;
  value_or_throw(part.tier->write(part.tile, part.planes, std::move(lease)).wait());
}

}  // namespace

swapper::StreamStats OptimizerStep::update_on_device(GradientStore& gradients,
                                                     const AdamConstants constants[2]) {
  const auto start = std::chrono::steady_clock::now();
  StateTiers& tiers = states_->tiers();
  const bool split = states_->config().dtype == Dtype::kBf16;
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
      weight = host.to(states_->device());
    }
    const auto address = [](const at::Tensor& bytes) {
      return static_cast<std::byte*>(bytes.data_ptr());
    };
    TilePlanes tile{address(weight), {}};
    for (std::uint32_t plane = 0; plane < (split ? 3u : 2u); ++plane) {
      tile.states[plane] = address(tiers.device_optimizer()->device_plane(optimizer_tile, plane));
    }
    const float* gradient = gradients.part(work.unit).const_data_ptr<float>() + work.offset;
    for (const TileWork::Run& run : work.runs) {
      const AdamConstants& with = constants[run.decay ? 1 : 0];
      if (split) {
        value_or_throw(
            adam_update_cuda(with, bf16_planes(tile, gradient, run.offset), run.elements, nullptr));
      } else {
        value_or_throw(
            adam_update_cuda(with, fp32_planes(tile, gradient, run.offset), run.elements, nullptr));
      }
    }
    if (tiers.device_weights() == nullptr) {
      store_weight(weight_part, host, weight, std::move(lease));
    }
  }
  swapper::StreamStats stats;
  stats.compute_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return stats;
}
#else
swapper::StreamStats OptimizerStep::update_on_device(GradientStore&, const AdamConstants*) {
  SPILLWAY_CHECK(false, "a device tier exists in builds with CUDA only");
  return {};
}
#endif

}  // namespace spillway::trainer
