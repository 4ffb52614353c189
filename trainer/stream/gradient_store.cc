#include "trainer/stream/gradient_store.h"
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <spillway/aio/check.h>
#include <spillway/trainer/failure.h>
#include "trainer/device/device.h"
#include "trainer/kernels/sum_of_squares.h"
#include "trainer/plan/cache_plan.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "trainer/stream/gradient_spill.h"

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

GradientStore::Expected::Expected(std::weak_ptr<Counts> counts, std::vector<UnitId> units)
    : counts_(std::move(counts)), units_(std::move(units)) {
  if (const auto all = counts_.lock()) {
    for (const UnitId unit : units_) ++(*all)[unit];
  }
}

GradientStore::Expected& GradientStore::Expected::operator=(Expected&& other) noexcept {
  end();
  counts_ = std::exchange(other.counts_, {});
  units_ = std::exchange(other.units_, {});
  return *this;
}

void GradientStore::Expected::end() noexcept {
  if (const auto all = std::exchange(counts_, {}).lock()) {
    for (const UnitId unit : units_) --(*all)[unit];
  }
}

GradientStore::GradientStore(ModelStates& states)
    : states_(&states),
      units_(states.units().size()),
      expected_(std::make_shared<Expected::Counts>(states.units().size(), 0)) {
  const bool on_device = states.tiers().device_optimizer() != nullptr;
  const bool one_memory = on_device || !states.device_kind().has_memory_of_its_own();
  direct_ = one_memory && states.communicator().world_size() == 1;
  for (UnitId unit = 0; unit < units_.size(); ++unit) {
    units_[unit].started.assign(states.units()[unit].parameters.size(), false);
  }
  place(plan());
}

GradientStore::~GradientStore() = default;

GradientPlan GradientStore::plan() const {
  const GradientConfig& config = states_->config().gradients;
  Communicator& ranks = states_->communicator();
  if (states_->tiers().device_optimizer() != nullptr) {
    if (config.device == OffloadDevice::kNvme) {
      throw Failure(make_error(ErrorKind::kInvalid, "place gradients", "",
                               "on NVMe they need the optimizer's states off the device too")
                        .value());
    }
    return {};
  }
  GradientSizes sizes;
  for (const auto& unit : states_->units()) {
    sizes.elements += unit.partition.part_elements(kTrainable);
    sizes.largest_unit = std::max(sizes.largest_unit, unit.partition.full_elements());
    for (const TileSpan& span : unit.partition.tiles()) {
      sizes.largest_tile = std::max(sizes.largest_tile, span.elements);
    }
  }
  sizes.weights_bytes = 2 * sizes.largest_unit * states_->tiers().weight_bytes_per_element();
  // Ranks of one machine ask before any of them takes, and all do the same.
  const std::uint64_t free_bytes =
      free_ram_bytes(pinned_pool::MemoryLimits::read(), /*must_be_locked=*/false);
  GradientPlan plan = plan_gradients(config, sizes, free_bytes / ranks.local_world_size());
  const bool somewhere = ranks.all_reduce_sum(plan.device == OffloadDevice::kNvme ? 1 : 0) > 0;
  if (somewhere && plan.device != OffloadDevice::kNvme) {
    GradientConfig like_others = config;
    like_others.device = OffloadDevice::kNvme;
    plan = plan_gradients(like_others, sizes, free_bytes);
    plan.reason = "as on another rank";
  }
  return plan;
}

void GradientStore::place(const GradientPlan& plan) {
  const GradientConfig& config = states_->config().gradients;
  const bool half = config.dtype == Dtype::kBf16;
  std::int64_t total = 0;
  for (const auto& unit : states_->units()) {
    total += static_cast<std::int64_t>(unit.partition.part_elements(kTrainable));
  }
  if (plan.device == OffloadDevice::kNvme && total > 0) {
    std::string note = "gradients: on NVMe in ";
    note.append(half ? "bf16" : "fp32").append(", ").append(config.nvme_path.string());
    states_->tiers().add_note(note.append(": ").append(plan.reason));
    sums_apart_ = true;
    spill_ = std::make_unique<GradientSpill>(*states_);
    return;
  }
  if (!plan.reason.empty()) states_->tiers().add_note("gradients: " + plan.reason);
  sums_apart_ = half;
  const bool on_device = states_->tiers().device_optimizer() != nullptr;
  const auto type = at::TensorOptions().dtype(half ? at::kBFloat16 : at::kFloat);
  memory_bytes_ = total * (half ? 2 : sizeof(float));
  at::Tensor all;
  if (on_device || total == 0) {
    all = states_->device_kind().empty({total}, type.device(states_->device())).zero_();
  } else {
    pinned_pool::SlabOptions options;
    options.size_bytes = memory_bytes_;
    options.cuda = states_->device_kind().register_host();
    if (states_->config().offload_optimizer.device == OffloadDevice::kNone) {
      options.lock = options.huge_pages = options.cuda = pinned_pool::Policy::kOff;
    }
    slab_ = value_or_throw(pinned_pool::Slab::create(options));
    all = at::from_blob(slab_->data(), {total}, type);
  }
  std::int64_t offset = 0;
  for (UnitId unit = 0; unit < units_.size(); ++unit) {
    const UnitPartition& partition = states_->units()[unit].partition;
    const auto elements = static_cast<std::int64_t>(partition.part_elements(kTrainable));
    units_[unit].kept = all.narrow(0, offset, elements);
    if (!sums_apart_) units_[unit].sum = units_[unit].kept;
    offset += elements;
  }
}

at::Tensor GradientStore::take_sum(std::int64_t elements) {
  const auto fits = std::find_if(spare_.begin(), spare_.end(),
                                 [&](const at::Tensor& sum) { return sum.numel() == elements; });
  if (fits != spare_.end()) {
    at::Tensor sum = std::move(*fits);
    spare_.erase(fits);
    return sum;
  }
  for (const at::Tensor& other : spare_) sum_bytes_ -= other.nbytes();
  spare_.clear();  // other sizes: the memory is worth more than the allocation
  const bool on_device = states_->tiers().device_optimizer() != nullptr;
  const at::Device device = on_device ? states_->device() : at::Device(at::kCPU);
  at::Tensor sum = at::empty({elements}, at::TensorOptions().dtype(at::kFloat).device(device));
  sum_bytes_ += sum.nbytes();
  peak_sum_bytes_ = std::max(peak_sum_bytes_, sum_bytes_);
  return sum;
}

// Makes the unit's sum one that can be added to.
void GradientStore::begin_sum(UnitId unit) {
  UnitGradient& gradient = units_[unit];
  const bool reopened = std::exchange(gradient.final, false);
  if (reopened && is_final_) {
    throw Failure(make_error(ErrorKind::kInvalid, "add a gradient", "",
                             "the unit's gradient was final, and it is being updated (a loss that "
                             "runs a backward of its own?); use offload_optimizer.update_order "
                             "forward")
                      .value());
  }
  if (gradient.sum.defined()) return;
  const UnitPartition& partition = states_->units()[unit].partition;
  gradient.sum = take_sum(static_cast<std::int64_t>(partition.part_elements(kTrainable)));
  if (!reopened || !gradient.touched) return;
  // More comes after it was final (a loss that ran a backward of its own).
  if (spill_ != nullptr) {
    spill_->read(unit, gradient.sum);
  } else {
    gradient.sum.copy_(gradient.kept);
  }
}

void GradientStore::add(UnitId unit, std::uint32_t parameter, const at::Tensor& addend) {
  UnitGradient& gradient = units_[unit];
  const UnitPartition& partition = states_->units()[unit].partition;
  const ParameterInfo& info = partition.parameters()[parameter];
  SPILLWAY_CHECK(!info.frozen, "a frozen parameter has no gradient");
  if (closed_) {
    throw Failure(make_error(ErrorKind::kInvalid, "take a gradient of " + partition.name(), "",
                             "backward ran outside of ZeroEngine::step, while the update of the "
                             "step before may still read its gradients: return the loss, and step "
                             "runs backward")
                      .value());
  }
  if (direct_) {
    begin_sum(unit);
    gradient.touched = true;
  } else if (!gradient.whole.defined()) {
    const auto elements = static_cast<std::int64_t>(partition.full_elements(kTrainable));
    gradient.whole =
        at::zeros({elements}, at::TensorOptions().dtype(at::kFloat).device(states_->device()));
  }
  at::Tensor target =
      (direct_ ? gradient.sum : gradient.whole)
          .narrow(0, static_cast<std::int64_t>(partition.parameter_offset(parameter)),
                  static_cast<std::int64_t>(info.elements))
          .view(info.shape);
  if (gradient.started[parameter]) {
    target.add_(addend);
  } else {
    target.copy_(addend);
    gradient.started[parameter] = true;
  }
}

void GradientStore::flush(UnitId unit) {
  if (states_->units()[unit].partition.full_elements(kTrainable) == 0) return;
  if (!direct_) add_part(unit);
  if ((*expected_)[unit] == 0) finish(unit);
}

void GradientStore::add_part(UnitId unit) {
  UnitGradient& gradient = units_[unit];
  const UnitPartition& partition = states_->units()[unit].partition;
  at::Tensor full = std::exchange(gradient.whole, {});
  if (!full.defined()) {
    // Nothing to add on this rank: the ranks move together.
    full = at::zeros({static_cast<std::int64_t>(partition.full_elements(kTrainable))},
                     at::TensorOptions().dtype(at::kFloat).device(states_->device()));
  }
  at::Tensor part =
      at::empty({static_cast<std::int64_t>(partition.part_elements(kTrainable))}, full.options());
  states_->communicator().reduce_scatter(part, full);
  begin_sum(unit);
  if (gradient.touched) {
    gradient.sum.add_(part.to(gradient.sum.device()));
  } else {
    gradient.sum.copy_(part);
    gradient.touched = true;
  }
  std::fill(gradient.started.begin(), gradient.started.end(), false);
}

// Zeroes what nothing was added to: unused parameters, and the room between parameters.
void GradientStore::zero_rest(UnitId unit) {
  UnitGradient& gradient = units_[unit];
  const UnitPartition& partition = states_->units()[unit].partition;
  std::int64_t end = 0;  // of what is set
  for (std::size_t i = 0; i < gradient.started.size(); ++i) {
    const ParameterInfo& info = partition.parameters()[i];
    if (info.frozen || !gradient.started[i]) continue;
    const auto offset = static_cast<std::int64_t>(partition.parameter_offset(i));
    gradient.sum.narrow(0, end, offset - end).zero_();
    end = offset + static_cast<std::int64_t>(info.elements);
  }
  gradient.sum.narrow(0, end, gradient.sum.numel() - end).zero_();
  std::fill(gradient.started.begin(), gradient.started.end(), true);
}

// The unit's gradient is final: takes its norm, and lets it leave for its place.
void GradientStore::finish(UnitId unit) {
  UnitGradient& gradient = units_[unit];
  if (gradient.final) return;
  gradient.squared_norm = 0;
  if (states_->units()[unit].partition.part_elements(kTrainable) > 0) {
    if (!gradient.touched) {
      if (spill_ != nullptr) {
        spill_->write_zeros(unit);
      } else {
        gradient.kept.zero_();
      }
    } else {
      if (direct_) zero_rest(unit);
      const at::Tensor host = gradient.sum.cpu();
      const auto start = std::chrono::steady_clock::now();
      gradient.squared_norm = sum_of_squares_parallel(host);
      norm_seconds_ +=
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (spill_ != nullptr) {
        spill_->write(unit, host);
      } else if (sums_apart_) {
        gradient.kept.copy_(gradient.sum);
      }
    }
    if (sums_apart_ && gradient.sum.defined()) spare_.push_back(std::exchange(gradient.sum, {}));
  }
  gradient.final = true;
  if (std::exchange(cleared_, false)) final_order_.clear();
  final_order_.push_back(unit);
  if (is_final_) is_final_(unit);
}

void GradientStore::clear() {
  cleared_ = true;
  closed_ = false;
  for (UnitGradient& gradient : units_) {
    gradient.whole.reset();
    if (sums_apart_ && gradient.sum.defined()) spare_.push_back(std::exchange(gradient.sum, {}));
    gradient.touched = gradient.final = false;
    std::fill(gradient.started.begin(), gradient.started.end(), false);
  }
}

const at::Tensor& GradientStore::part(UnitId unit) const {
  SPILLWAY_CHECK(spill_ == nullptr, "gradients on NVMe are read as tiles");
  return units_[unit].kept;
}

std::optional<swapper::Part> GradientStore::stored_part(UnitId unit,
                                                        std::uint32_t trainable_tile) const {
  if (spill_ == nullptr) return std::nullopt;
  return spill_->part(unit, trainable_tile);
}

double GradientStore::squared_norm() {
  double total = 0;
  for (UnitId unit = 0; unit < units_.size(); ++unit) {
    finish(unit);
    total += units_[unit].squared_norm;
  }
  if (spill_ != nullptr) spill_->drain();
  return states_->communicator().all_reduce_sum(total);
}

std::uint64_t GradientStore::storage_bytes() const noexcept {
  return spill_ == nullptr ? 0 : spill_->storage_bytes();
}

}  // namespace spillway::trainer
