#include <ATen/Functions.h>
#include <spillway/aio/check.h>
#include <spillway/trainer/device_tier.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/weight_fetcher.h>

#include <algorithm>
#include <chrono>

namespace spillway::trainer {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

WeightFetcher::~WeightFetcher() { drop_reads(); }

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
  // The unit itself first: its tiles are the ones read ahead.
  if (!loaded_.contains(unit)) load(unit);
  for (const UnitId id : needed) {
    if (!loaded_.contains(id)) load(id);
  }
  for (const UnitId id : needed) attach(id, loaded_.at(id));
  peak_bytes_ = std::max(peak_bytes_, resident_bytes());
  read_ahead({unit, phase});
}

void WeightFetcher::release(UnitId unit) {
  for (const UnitId id : states_->units_needed(unit)) detach(id);
}

void WeightFetcher::invalidate() {
  drop_reads();
  for (auto& [unit, flat] : loaded_) spare_.push_back(std::move(flat));
  loaded_.clear();
}

std::uint64_t WeightFetcher::resident_bytes() const noexcept {
  std::uint64_t bytes = 0;
  for (const auto& [unit, flat] : loaded_) bytes += flat.nbytes();
  for (const at::Tensor& flat : spare_) bytes += flat.nbytes();
  return bytes;
}

at::Tensor WeightFetcher::take_flat(std::int64_t elements) {
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

void WeightFetcher::load(UnitId id) {
  const auto& unit = states_->units()[id];
  const UnitPartition& partition = unit.partition;
  Communicator& ranks = states_->communicator();
  expect(id);
  const auto full = static_cast<std::int64_t>(partition.full_elements());
  at::Tensor flat = take_flat(full);
  const bool whole = ranks.world_size() == 1;
  at::Tensor part = whole ? flat : at::empty({full / ranks.world_size()}, flat.options());
  const auto part_trainable = static_cast<std::int64_t>(partition.part_elements(kTrainable));
  for (std::size_t i = 0; i < partition.tiles().size(); ++i) {
    const TileSpan& span = partition.tiles()[i];
    const std::int64_t start =
        static_cast<std::int64_t>(span.offset) + (span.section == kFrozen ? part_trainable : 0);
    copy_tile(unit.first_tile + i, part.narrow(0, start, span.elements));
  }
  next_tile_ = 0;
  if (!whole) {
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
  }
  loaded_.emplace(id, std::move(flat));
}

void WeightFetcher::copy_tile(swapper::TileId tile, const at::Tensor& destination) {
  StateTiers& tiers = states_->tiers();
  const auto bytes = at::TensorOptions().dtype(at::kByte);
  at::Tensor target = destination.view(at::kByte);
  if (tiers.device_weights() != nullptr) {
    target.copy_(tiers.device_weights()->device_plane(tile, 0));
    return;
  }
  if (std::byte* resident = tiers.weights().resident(tile, 0)) {
    target.copy_(at::from_blob(resident, {target.numel()}, bytes));
    return;
  }
  start_reads(reading_, /*wait_for_first=*/true);
  SPILLWAY_CHECK(!reads_.empty() && reads_.front().tile == tile, "tiles are read in order");
  // Off the list first: when its wait throws, drop_reads() must not wait for it again.
  Read read = std::move(reads_.front());
  reads_.pop_front();
  const auto start = std::chrono::steady_clock::now();
  const auto lease = value_or_throw(read.transfer.wait());
  wait_seconds_ += seconds_since(start);
  target.copy_(at::from_blob(lease.data(), {target.numel()}, bytes));
}

// Starts reads of the unit's tiles, in order, while buffers are free.
void WeightFetcher::start_reads(UnitId id, bool wait_for_first) {
  const auto& unit = states_->units()[id];
  StateTiers& tiers = states_->tiers();
  pinned_pool::Pool* pool = tiers.weight_pool();
  if (pool == nullptr) return;
  for (; next_tile_ < unit.partition.tiles().size(); ++next_tile_) {
    const auto tile = static_cast<swapper::TileId>(unit.first_tile + next_tile_);
    if (tiers.weights().resident(tile, 0) != nullptr) continue;
    const bool must = wait_for_first && reads_.empty();
    pinned_pool::Lease lease = must ? pool->acquire() : pool->try_acquire();
    if (!lease) return;
    reads_.push_back(
        {tile, tiers.weights().read(tile, {.first = 0, .count = 1}, std::move(lease))});
  }
}

void WeightFetcher::read_ahead(const Use& now) {
  if (previous_) follows_.insert_or_assign(*previous_, now);
  previous_ = now;
  const auto next = follows_.find(now);
  if (next == follows_.end() || loaded_.contains(next->second.first)) return;
  if (states_->tiers().device_weights() != nullptr) return;
  expect(next->second.first);
  start_reads(reading_, /*wait_for_first=*/false);
}

// Makes `id` the unit whose tiles are read; another unit's are no longer wanted.
void WeightFetcher::expect(UnitId id) {
  if (reading_ == id) return;
  drop_reads();
  reading_ = id;
}

void WeightFetcher::drop_reads() {
  // An abandoned read ends by itself and gives its buffer back; waiting keeps the pool predictable.
  for (Read& read : reads_) static_cast<void>(read.transfer.wait());
  reads_.clear();
  next_tile_ = 0;
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
