// StateTiers: how much of the drives and of RAM its tiers take, and what they give back.
#include <spillway/pinned_pool/limits.h>
#include <spillway/trainer/failure.h>
#include "trainer/device/device.h"
#include "trainer/plan/generation_room.h"
#include "trainer/states/state_tiers.h"

#include <algorithm>
#include <utility>

#include "trainer/states/store_spec.h"

namespace spillway::trainer {
namespace {

// What gradients must find free to stay in RAM: plan_gradients leaves a quarter of it to others.
std::uint64_t gradient_room(const Config& config, std::uint64_t elements) {
  if (config.gradients.device == OffloadDevice::kNvme) return 0;
  const std::uint64_t bytes = elements * (config.gradients.dtype == Dtype::kBf16 ? 2 : 4);
  return config.gradients.device ? bytes : bytes / 3 * 4;
}

// Free memory that the next step will not take: between steps a process is at its smallest, and it
// will reach its peak again.
std::uint64_t left_bytes(const pinned_pool::MemoryLimits& limits,
                         const pinned_pool::MemoryUsage& usage) {
  const std::uint64_t coming = usage.peak_resident_bytes - usage.resident_bytes;
  const std::uint64_t free_bytes = free_ram_bytes(limits, /*must_be_locked=*/false);
  return free_bytes - std::min(free_bytes, coming);
}

}  // namespace

bool StateTiers::has_two_generations(const Config& config, const StoreSpec& weights,
                                     const StoreSpec& states, Communicator& communicator) {
  if (!keeps_generations(config)) return false;
  if (config.update_order == UpdateOrder::kBackward) return true;
  std::vector<StoredBytes> stores;
  for (const StoreSpec* store : {&weights, &states}) {
    stores.push_back({store->lock->directory(), store->nvme_bytes()});
  }
  const std::string lacking = lacking_room(stores, communicator.local_world_size());
  if (communicator.all_reduce_sum(lacking.empty() ? 0 : 1) == 0) return true;
  notes_.push_back("update_order auto is forward here, and would be backward with more room: " +
                   (lacking.empty() ? "another rank lacks it" : lacking));
  return false;
}

CachePlan StateTiers::plan_caches(const Config& config, const StoreSpec& weights,
                                  const StoreSpec& states, const Tiles& tiles,
                                  Communicator& communicator) {
  CacheNeeds needs;
  local_ranks_ = needs.local_ranks = communicator.local_world_size();
  const auto must_be_locked = [](const StoreSpec& store) {
    return store.caches_what_is_free() && store.offload.pin_memory.value_or(false);
  };
  needs.free_bytes = free_ram_bytes(pinned_pool::MemoryLimits::read(),
                                    must_be_locked(weights) || must_be_locked(states));
  communicator.barrier();  // the others have looked too, before anything is taken
  const bool on_device = kind_.has_memory_of_its_own();
  for (const StoreSpec* store : {&weights, &states}) {
    const TileCounts counts{.tiles = store->tiles.size(),
                            .max_unit_tiles = tiles.max_unit_tiles,
                            .largest_bytes = store->largest_bytes()};
    if (store->offload.device == OffloadDevice::kNvme) {
      needs.other_bytes +=
          counts.largest_bytes * (update_buffer_count(config, counts) +
                                  (store == &weights ? weight_buffer_count(config, counts) : 0));
    } else if (store->offload.device == OffloadDevice::kCpu || !on_device) {
      needs.other_bytes += store->all_bytes();
    }
    CacheableStore& cacheable = store == &weights ? needs.weights : needs.optimizer;
    if (store->caches_what_is_free()) {
      // Weights in RAM are copied before a speculative update.
      const bool copied = store == &weights && store->two_generations;
      cacheable = {store->elements(), store->all_bytes() * (copied ? 2 : 1)};
    }
  }
  if (!on_device || states.offload.device != OffloadDevice::kNone) {
    needs.other_bytes += gradient_room(config, states.elements());
  }
  if (!on_device) {  // the unit that is used and the one before it, gathered
    needs.other_bytes += 2 * tiles.max_unit_tiles * weights.largest_elements() * weight_bytes_ *
                         communicator.world_size();
  }
  CachePlan plan = plan_cache(needs);
  margin_bytes_ = plan.margin_bytes;
  if (!plan.note.empty()) notes_.push_back(plan.note);
  return plan;
}

bool StateTiers::under_pressure() const {
  return !caches_.empty() && left_bytes(pinned_pool::MemoryLimits::read(),
                                        pinned_pool::memory_usage()) < margin_bytes_ / 2;
}

void StateTiers::relieve_pressure() {
  relieve_pressure(pinned_pool::MemoryLimits::read(), pinned_pool::memory_usage());
}

void StateTiers::relieve_pressure(const pinned_pool::MemoryLimits& limits,
                                  const pinned_pool::MemoryUsage& usage) {
  const std::uint64_t left = left_bytes(limits, usage);
  if (left >= margin_bytes_ / 2) return;
  std::uint64_t wanted = (margin_bytes_ - left) / local_ranks_;
  std::uint64_t freed = 0;
  for (const Cache& cache : caches_) {
    if (wanted > freed) freed += value_or_throw(cache.tier->demote(wanted - freed, *cache.pool));
  }
  if (freed == 0 || std::exchange(said_pressure_, true)) return;
  notes_.push_back("gave " + pinned_pool::format_bytes(freed) +
                   " of cached states back: " + pinned_pool::format_bytes(left) +
                   " were left for the next step; more may follow, unsaid");
}

}  // namespace spillway::trainer
