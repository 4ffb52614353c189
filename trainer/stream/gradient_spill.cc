#include "trainer/stream/gradient_spill.h"

#include <ATen/Functions.h>
#include <spillway/trainer/failure.h>
#include "trainer/plan/backward_memory.h"

#include <algorithm>
#include <utility>

namespace spillway::trainer {
namespace {

std::vector<std::uint64_t> trainable_tiles(const ModelStates& states) {
  std::vector<std::uint64_t> tiles;
  for (const auto& unit : states.units()) {
    for (const TileSpan& span : unit.partition.tiles()) {
      if (span.section == kTrainable) tiles.push_back(span.elements);
    }
  }
  return tiles;
}

}  // namespace

GradientSpill::GradientSpill(ModelStates& states)
    : states_(&states), zero_(states.units().size(), false) {
  const GradientConfig& config = states.config().gradients;
  const bool half = config.dtype == Dtype::kBf16;
  type_ = half ? at::kBFloat16 : at::kFloat;
  const std::vector<std::uint64_t> tiles = trainable_tiles(states);
  const swapper::Layout layout({{"gradient", half ? 2u : 4u}});
  store_ = &states.tiers().add_store("gradients", layout, tiles, config.nvme_path);
  const std::size_t bytes = layout.tile_bytes(*std::max_element(tiles.begin(), tiles.end()));
  writing_ = &states.tiers().add_pool("gradients out", bytes, kGradientBuffers);
  reading_ = &states.tiers().add_pool("gradients in", bytes, kGradientBuffers);
}

GradientSpill::~GradientSpill() {
  for (swapper::Transfer& write : writes_) static_cast<void>(write.wait());
}

template <typename Body>
void GradientSpill::for_each_tile(UnitId id, const at::Tensor& part, const Body& body) {
  const auto& unit = states_->units()[id];
  swapper::TileId tile = unit.first_optimizer_tile;
  for (const TileSpan& span : unit.partition.tiles()) {
    if (span.section != kTrainable) continue;
    body(tile++, part.narrow(0, static_cast<std::int64_t>(span.offset),
                             static_cast<std::int64_t>(span.elements)));
  }
}

pinned_pool::Lease GradientSpill::take_buffer() {
  while (true) {
    pinned_pool::Lease lease = writing_->try_acquire();
    if (lease || writes_.empty()) return lease ? std::move(lease) : writing_->acquire();
    // Off the list first: when its wait fails, nothing must wait for it again.
    swapper::Transfer oldest = std::move(writes_.front());
    writes_.pop_front();
    const TraceSpan span(states_->trace(), Lane::kWait, "wait for gradients");
    value_or_throw(oldest.wait());
  }
}

void GradientSpill::write_tiles(UnitId unit, const at::Tensor& sum) {
  for_each_tile(unit, sum, [&](swapper::TileId tile, const at::Tensor& range) {
    pinned_pool::Lease lease = take_buffer();
    at::from_blob(lease.data(), {range.numel()}, at::TensorOptions().dtype(type_)).copy_(range);
    writes_.push_back(store_->write(tile, store_->layout().all(), std::move(lease)));
  });
}

void GradientSpill::write(UnitId unit, const at::Tensor& sum) {
  zero_[unit] = false;
  write_tiles(unit, sum);
}

void GradientSpill::write_zeros(UnitId unit) {
  const auto elements = states_->units()[unit].partition.part_elements(kTrainable);
  if (zero_[unit] || elements == 0) return;
  write_tiles(unit, at::zeros({1}).expand({static_cast<std::int64_t>(elements)}));
  zero_[unit] = true;
}

void GradientSpill::read(UnitId unit, const at::Tensor& sum) {
  drain();
  for_each_tile(unit, sum, [&](swapper::TileId tile, at::Tensor range) {
    const auto lease =
        value_or_throw(store_->read(tile, store_->layout().all(), reading_->acquire()).wait());
    range.copy_(at::from_blob(lease.data(), {range.numel()}, at::TensorOptions().dtype(type_)));
  });
}

void GradientSpill::drain() {
  while (!writes_.empty()) {
    swapper::Transfer oldest = std::move(writes_.front());
    writes_.pop_front();
    const TraceSpan span(states_->trace(), Lane::kWait, "wait for gradients");
    value_or_throw(oldest.wait());
  }
}

swapper::Part GradientSpill::part(UnitId unit, std::uint32_t trainable_tile) const {
  const swapper::TileId tile = states_->units()[unit].first_optimizer_tile + trainable_tile;
  return {store_, tile, store_->layout().all(), swapper::Access::kRead, reading_};
}

}  // namespace spillway::trainer
