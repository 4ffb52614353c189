#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <spillway/aio/check.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/gradient_store.h>
#include <spillway/trainer/sum_of_squares.h>

#include <algorithm>
#include <cstring>

namespace spillway::trainer {
namespace {

// The norm is summed over pieces of this many elements whatever the number of threads.
constexpr std::int64_t kNormPieceElements = std::int64_t{1} << 18;

double sum_of_squares_parallel(const at::Tensor& flat) {
  const float* values = flat.const_data_ptr<float>();
  const std::int64_t count = flat.numel();
  const std::int64_t pieces = (count + kNormPieceElements - 1) / kNormPieceElements;
  std::vector<double> sums(pieces);
  at::parallel_for(0, pieces, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t first = i * kNormPieceElements;
      sums[i] = sum_of_squares(values + first, std::min(kNormPieceElements, count - first));
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace

GradientStore::GradientStore(ModelStates& states) : states_(&states) {
  const auto units = states.units();
  const bool on_device = states.tiers().device_optimizer() != nullptr;
  const bool one_memory = on_device || states.device().is_cpu();
  direct_ = one_memory && states.communicator().world_size() == 1;
  std::int64_t total = 0;
  for (const auto& unit : units) {
    total += static_cast<std::int64_t>(unit.partition.part_elements(kTrainable));
  }
  memory_bytes_ = total * sizeof(float);
  at::Tensor all;
  if (on_device || total == 0) {
    all = at::zeros({total}, at::TensorOptions().dtype(at::kFloat).device(states.device()));
  } else {
    pinned_pool::SlabOptions options;
    options.size_bytes = memory_bytes_;
    options.cuda = states.device().is_cuda() ? pinned_pool::Wish::kAuto : pinned_pool::Wish::kOff;
    if (states.config().offload_optimizer.device == OffloadDevice::kNone) {
      options.lock = options.huge_pages = options.cuda = pinned_pool::Wish::kOff;
    }
    slab_ = value_or_throw(pinned_pool::Slab::create(options));
    all = at::from_blob(slab_->data(), {total}, at::TensorOptions().dtype(at::kFloat));
  }
  std::int64_t offset = 0;
  for (const auto& unit : units) {
    const auto elements = static_cast<std::int64_t>(unit.partition.part_elements(kTrainable));
    parts_.push_back(all.narrow(0, offset, elements));
    started_.emplace_back(unit.parameters.size(), false);
    offset += elements;
  }
  whole_.resize(units.size());
  flushed_.assign(units.size(), false);
}

at::Tensor GradientStore::whole(UnitId unit) {
  if (direct_) return parts_[unit];
  if (!whole_[unit].defined()) {
    const auto elements = states_->units()[unit].partition.full_elements(kTrainable);
    whole_[unit] = at::zeros({static_cast<std::int64_t>(elements)},
                             at::TensorOptions().dtype(at::kFloat).device(states_->device()));
  }
  return whole_[unit];
}

void GradientStore::add(UnitId unit, std::uint32_t parameter, const at::Tensor& gradient) {
  const UnitPartition& partition = states_->units()[unit].partition;
  const ParameterInfo& info = partition.parameters()[parameter];
  SPILLWAY_CHECK(!info.frozen, "a frozen parameter has no gradient");
  at::Tensor target =
      whole(unit)
          .narrow(0, static_cast<std::int64_t>(partition.parameter_offset(parameter)),
                  static_cast<std::int64_t>(info.elements))
          .view(info.shape);
  if (started_[unit][parameter]) {
    target.add_(gradient);
  } else {
    target.copy_(gradient);
    started_[unit][parameter] = true;
  }
}

void GradientStore::flush(UnitId unit) {
  if (direct_) return;
  if (states_->units()[unit].partition.full_elements(kTrainable) == 0) return;
  at::Tensor full =
      whole(unit);  // zeros when this rank had nothing to add: the ranks move together
  at::Tensor part = at::empty({parts_[unit].numel()}, full.options());
  states_->communicator().reduce_scatter(part, full);
  if (flushed_[unit]) {
    parts_[unit].add_(part.to(parts_[unit].device()));
  } else {
    parts_[unit].copy_(part);
    flushed_[unit] = true;
  }
  whole_[unit].reset();
  std::fill(started_[unit].begin(), started_[unit].end(), false);
}

void GradientStore::clear() {
  for (std::size_t unit = 0; unit < parts_.size(); ++unit) {
    whole_[unit].reset();
    flushed_[unit] = false;
    std::fill(started_[unit].begin(), started_[unit].end(), false);
  }
}

at::Tensor GradientStore::part(UnitId unit) {
  if (!direct_) {
    if (!flushed_[unit]) {
      parts_[unit].zero_();
      flushed_[unit] = true;
    }
    return parts_[unit];
  }
  const UnitPartition& partition = states_->units()[unit].partition;
  for (std::size_t i = 0; i < started_[unit].size(); ++i) {
    const ParameterInfo& info = partition.parameters()[i];
    if (info.frozen || started_[unit][i]) continue;
    parts_[unit]
        .narrow(0, static_cast<std::int64_t>(partition.parameter_offset(i)),
                static_cast<std::int64_t>(info.elements))
        .zero_();
    started_[unit][i] = true;
  }
  return parts_[unit];
}

double GradientStore::squared_norm() {
  double total = 0;
  for (UnitId unit = 0; unit < parts_.size(); ++unit) {
    total += sum_of_squares_parallel(part(unit).cpu());
  }
  return states_->communicator().all_reduce_sum(total);
}

}  // namespace spillway::trainer
