#include "trainer/stream/weight_fetcher.h"
#include <ATen/Functions.h>
#include <spillway/aio/check.h>
#include <spillway/aio/stopwatch.h>
#include "trainer/device/device.h"
#include "trainer/device/device_tier.h"
#include "trainer/states/tensor_destination.h"

#include <algorithm>

#include "trainer/stream/weight_loader.h"

namespace spillway::trainer {
namespace {

UnitWeights weights_of(ModelStates& states) {
  UnitWeights weights{&states.tiers().weights(), states.tiers().weight_pool(), {}};
  for (const ModelStates::UnitState& unit : states.units()) {
    weights.units.push_back({&unit.partition, unit.first_tile});
  }
  return weights;
}

}  // namespace

WeightFetcher::WeightFetcher(ModelStates& states, BackgroundUpdate& update)
    : states_(&states),
      update_(&update),
      loader_(std::make_unique<WeightLoader>(weights_of(states), update)) {
  for (UnitId unit = 0; unit < states.units().size(); ++unit) {
    ahead_bytes_ = std::max(ahead_bytes_, bytes_of(unit));
  }
}

WeightFetcher::~WeightFetcher() = default;

void WeightFetcher::acquire(UnitId unit, Phase phase) {
  const std::vector<UnitId> needed = states_->units_needed(unit);
  for (auto it = loaded_.begin(); it != loaded_.end();) {
    if (std::binary_search(needed.begin(), needed.end(), it->first)) {
      ++it;
      continue;
    }
    spare_.push_back(std::move(it->second));
    it = loaded_.erase(it);
  }
  note_use({unit, phase});
  for (const UnitId id : needed) {
    if (!loaded_.contains(id)) load(id);
  }
  for (const UnitId id : needed) attach(id, loaded_.at(id));
  send_for_next();
  peak_bytes_ = std::max(peak_bytes_, resident_bytes());
}

void WeightFetcher::release(UnitId unit) {
  for (const UnitId id : states_->units_needed(unit)) detach(id);
}

void WeightFetcher::invalidate() {
  for (auto& [unit, coming] : coming_) coming.weights->abandon();
  coming_.clear();
  loader_->settle();
  for (auto& [unit, flat] : loaded_) spare_.push_back(std::move(flat));
  loaded_.clear();
}

void WeightFetcher::settle() { loader_->settle(); }

void WeightFetcher::forget(UnitId unit) {
  if (const auto coming = coming_.find(unit); coming != coming_.end()) {
    coming->second.weights->abandon();
    coming_.erase(coming);
  }
  loader_->settle(unit);
}

void WeightFetcher::begin_sweep(Sweep sweep) {
  sweep_ = sweep;
  Order& order = orders_[static_cast<std::size_t>(sweep)];
  if (!order.recorded.empty()) order.expected = std::exchange(order.recorded, {});
  order.position = 0;
  send_for_next();
}

// Finds the use in the sweep before, from where this one stands, or else anywhere; a sweep that
// goes in circles (generation, token by token) repeats itself.
void WeightFetcher::note_use(const Use& use) {
  Order& order = orders_[static_cast<std::size_t>(sweep_)];
  const auto find_from = [&](std::size_t position) {
    const auto from = order.expected.begin() + static_cast<std::ptrdiff_t>(position);
    return static_cast<std::size_t>(std::find(from, order.expected.end(), use) -
                                    order.expected.begin());
  };
  std::size_t found = find_from(order.position);
  if (found == order.expected.size()) found = find_from(0);
  if (found == order.expected.size()) {
    if (std::find(order.recorded.begin(), order.recorded.end(), use) != order.recorded.end()) {
      order.expected = order.recorded;
    }
    found = find_from(0);
  }
  order.position = std::min(found + 1, order.expected.size());
  order.recorded.push_back(use);
}

std::vector<UnitId> WeightFetcher::forward_order() const {
  std::vector<UnitId> units;
  for (const auto& [unit, phase] : orders_[static_cast<std::size_t>(Sweep::kTraining)].recorded) {
    if (phase != Phase::kForward) continue;
    for (const UnitId id : states_->units_needed(unit)) {
      if (std::find(units.begin(), units.end(), id) == units.end()) units.push_back(id);
    }
  }
  return units;
}

// Sends for the units that are used next; what was sent for and is not among them is let go.
void WeightFetcher::send_for_next() {
  const Order& order = orders_[static_cast<std::size_t>(sweep_)];
  std::vector<UnitId> next;
  std::uint64_t bytes = 0;
  bool room = true;
  for (std::size_t i = order.position; room && i < order.expected.size(); ++i) {
    for (const UnitId id : states_->units_needed(order.expected[i].first)) {
      if (loaded_.contains(id) || in_place(id)) continue;
      if (std::find(next.begin(), next.end(), id) != next.end()) continue;
      bytes += bytes_of(id);
      room = next.empty() || bytes <= ahead_bytes_;
      if (!room) break;
      next.push_back(id);
    }
  }
  for (auto it = coming_.begin(); it != coming_.end();) {
    const bool wanted = std::find(next.begin(), next.end(), it->first) != next.end();
    if (!wanted) it->second.weights->abandon();
    it = wanted ? std::next(it) : coming_.erase(it);
  }
  for (const UnitId id : next) {
    if (!coming_.contains(id)) coming_.emplace(id, send_for(id));
  }
}

WeightFetcher::Coming WeightFetcher::send_for(UnitId id) {
  const UnitPartition& partition = states_->units()[id].partition;
  const at::Tensor flat = take_flat(id);
  const at::Tensor part = part_of(id, flat);
  Coming coming{
      std::make_shared<IncomingUnit>(partition, states_->tiers().weight_bytes_per_element(),
                                     std::make_unique<TensorDestination>(part)),
      flat, part};
  coming.weights->set_trace(states_->trace(), id);
  coming.updated = update_->deliver(id, coming.weights);
  const auto tiles = coming.updated ? WeightLoader::Tiles::kFrozen : WeightLoader::Tiles::kAll;
  loader_->load(id, tiles, coming.weights);
  return coming;
}

void WeightFetcher::load(UnitId id) {
  if (in_place(id)) {
    loaded_.emplace(id, copy_resident(id));
    return;
  }
  const auto sent_for = coming_.find(id);
  const Coming coming = sent_for == coming_.end() ? send_for(id) : sent_for->second;
  {
    const Stopwatch watch(coming.updated ? update_wait_seconds_ : read_wait_seconds_);
    const TraceSpan span(states_->trace(), Lane::kWait,
                         coming.updated ? "wait for the update of" : "wait for",
                         {.unit = static_cast<std::int32_t>(id)});
    coming.weights->wait();
  }
  coming_.erase(id);
  loaded_.emplace(id, gathered(id, coming.flat, coming.part));
}

// Whether the unit's weights need only be copied within the memory of the device.
bool WeightFetcher::in_place(UnitId id) const {
  StateTiers& tiers = states_->tiers();
  if (tiers.device_weights() != nullptr) return true;
  if (states_->device_kind().has_memory_of_its_own()) return false;
  const auto& unit = states_->units()[id];
  for (std::size_t i = 0; i < unit.partition.tiles().size(); ++i) {
    const auto tile = static_cast<swapper::TileId>(unit.first_tile + i);
    if (tiers.weights().resident(tile, 0) == nullptr) return false;
  }
  return true;
}

at::Tensor WeightFetcher::copy_resident(UnitId id) {
  {
    const Stopwatch watch(update_wait_seconds_);
    const TraceSpan span(states_->trace(), Lane::kWait, "wait for the update of",
                         {.unit = static_cast<std::int32_t>(id)});
    update_->wait_until_written(id);
  }
  const TraceSpan span(states_->trace(), Lane::kCopy, "copy",
                       {.bytes = bytes_of(id), .unit = static_cast<std::int32_t>(id)});
  StateTiers& tiers = states_->tiers();
  const auto& unit = states_->units()[id];
  const at::Tensor flat = take_flat(id);
  const at::Tensor part = part_of(id, flat);
  const auto trainable = static_cast<std::int64_t>(unit.partition.part_elements(kTrainable));
  for (std::size_t i = 0; i < unit.partition.tiles().size(); ++i) {
    const TileSpan& span = unit.partition.tiles()[i];
    const auto tile = static_cast<swapper::TileId>(unit.first_tile + i);
    const std::int64_t start =
        static_cast<std::int64_t>(span.offset) + (span.section == kFrozen ? trainable : 0);
    const at::Tensor target =
        part.narrow(0, start, static_cast<std::int64_t>(span.elements)).view(at::kByte);
    if (tiers.device_weights() != nullptr) {
      target.copy_(tiers.device_weights()->device_plane(tile, 0));
    } else {
      target.copy_(at::from_blob(tiers.weights().resident(tile, 0), {target.numel()},
                                 at::TensorOptions().dtype(at::kByte)));
    }
  }
  return gathered(id, flat, part);
}

// The whole unit, from every rank's part.
at::Tensor WeightFetcher::gathered(UnitId id, const at::Tensor& flat, const at::Tensor& part) {
  Communicator& ranks = states_->communicator();
  if (ranks.world_size() == 1) return flat;
  const UnitPartition& partition = states_->units()[id].partition;
  std::int64_t offset = 0;
  std::int64_t part_offset = 0;
  for (const Section section : {kTrainable, kFrozen}) {
    const auto length = static_cast<std::int64_t>(partition.full_elements(section));
    const auto piece = static_cast<std::int64_t>(partition.part_elements(section));
    if (length > 0) {
      ranks.all_gather(flat.narrow(0, offset, length), part.narrow(0, part_offset, piece));
    }
    offset += length;
    part_offset += piece;
  }
  return flat;
}

std::uint64_t WeightFetcher::bytes_of(UnitId id) const {
  return states_->units()[id].partition.full_elements() *
         states_->tiers().weight_bytes_per_element();
}

std::uint64_t WeightFetcher::resident_bytes() const noexcept {
  std::uint64_t bytes = 0;
  for (const auto& [unit, flat] : loaded_) bytes += flat.nbytes();
  for (const auto& [unit, coming] : coming_) bytes += coming.flat.nbytes();
  for (const at::Tensor& flat : spare_) bytes += flat.nbytes();
  return bytes;
}

at::Tensor WeightFetcher::take_flat(UnitId id) {
  const auto elements = static_cast<std::int64_t>(states_->units()[id].partition.full_elements());
  const auto fits = std::find_if(spare_.begin(), spare_.end(),
                                 [&](const at::Tensor& flat) { return flat.numel() == elements; });
  if (fits != spare_.end()) {
    at::Tensor flat = std::move(*fits);
    spare_.erase(fits);
    return flat;
  }
  spare_.clear();  // other sizes: the memory is worth more than the allocation
  return at::empty({elements},
                   at::TensorOptions().dtype(states_->weight_type()).device(states_->device()));
}

at::Tensor WeightFetcher::part_of(UnitId id, const at::Tensor& flat) const {
  const auto world = static_cast<std::int64_t>(states_->communicator().world_size());
  if (world == 1) return flat;
  const auto full = static_cast<std::int64_t>(states_->units()[id].partition.full_elements());
  return at::empty({full / world}, flat.options());
}

void WeightFetcher::attach(UnitId id, const at::Tensor& flat) {
  auto& unit = states_->units()[id];
  const UnitPartition& partition = unit.partition;
  for (std::size_t i = 0; i < unit.parameters.size(); ++i) {
    const ParameterInfo& info = partition.parameters()[i];
    const std::uint64_t offset =
        partition.parameter_offset(i) + (info.frozen ? partition.full_elements(kTrainable) : 0);
    unit.parameters[i].set_data(
        flat.narrow(0, static_cast<std::int64_t>(offset), static_cast<std::int64_t>(info.elements))
            .view(info.shape));
  }
}

void WeightFetcher::detach(UnitId id) {
  auto& unit = states_->units()[id];
  const auto options = at::TensorOptions().dtype(states_->weight_type()).device(states_->device());
  for (at::Tensor& parameter : unit.parameters) parameter.set_data(at::empty({0}, options));
}

}  // namespace spillway::trainer
