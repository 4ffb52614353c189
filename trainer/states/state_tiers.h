// StateTiers: where a model's states live, as configured: the aio engine, the directory locks, the
// two tiers (weights; optimizer states) and the pools of buffers that move their tiles.
//
// optimizer_layout.h says what a tile holds. Two stores let forward read contiguously and let each
// be offloaded on its own. The constructor compares its plan with the machine's limits before it
// allocates, and refuses with the arithmetic. Owns all of it. One thread at a time.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/aio/engine.h>
#include <spillway/pinned_pool/pool.h>
#include <spillway/swapper/cached_tier.h>
#include <spillway/swapper/directory_lock.h>
#include <spillway/swapper/ram_tier.h>
#include <spillway/swapper/tier.h>
#include <spillway/trainer/communicator.h>
#include <spillway/trainer/config.h>
#include "trainer/plan/cache_plan.h"
#include "trainer/plan/partition.h"
#include "trainer/plan/state_buffers.h"

#include <filesystem>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::trainer {

class DeviceKind;
class DeviceTier;

class StateTiers {
 public:
  // Tile sizes in elements: of all tiles, and of those with optimizer state (in order).
  // `max_unit_tiles`: the most tiles one unit has, which sizes the read-ahead of weights.
  struct Tiles {
    std::vector<std::uint64_t> all;
    std::vector<std::uint64_t> trainable;
    std::size_t max_unit_tiles = 0;
  };
  // Throws Failure. All ranks call it together.
  StateTiers(const Config& config, const Tiles& tiles, Communicator& communicator,
             at::Device device);
  ~StateTiers();

  swapper::Tier& weights() noexcept { return *weights_; }
  swapper::Tier& optimizer() noexcept { return *optimizer_; }
  const swapper::Tier& weights() const noexcept { return *weights_; }
  const swapper::Tier& optimizer() const noexcept { return *optimizer_; }
  pinned_pool::Pool* weight_pool() noexcept { return weight_pool_.get(); }
  pinned_pool::Pool* optimizer_pool() noexcept { return optimizer_pool_.get(); }
  // For tiles that are updated. The fetcher has others: it may wait for the update while the update
  // waits for a buffer.
  pinned_pool::Pool* update_weight_pool() noexcept { return update_weight_pool_.get(); }
  // The same tiers if they are in device memory, else nullptr.
  DeviceTier* device_weights() noexcept { return device_weights_; }
  DeviceTier* device_optimizer() noexcept { return device_optimizer_; }

  // True if relieve_pressure would evict.
  bool under_pressure() const;
  // Evicts tiles that max_in_cpu "auto" caches in RAM, if less than half of the margin is free: to
  // NVMe, until the margin is. Memory up to the process's peak counts as needed again. Adds a note.
  // Blocks; cheap if there is nothing to do. REQUIRES: no tile is read, updated or held. Throws
  // Failure.
  void relieve_pressure();
  // The same with given limits and usage.
  void relieve_pressure(const pinned_pool::MemoryLimits& limits,
                        const pinned_pool::MemoryUsage& usage);
  // Adds a store on NVMe for tiles that are no states: gradients, activations. Lives as long as
  // this. Throws Failure: no space, not a directory, in use by another job.
  swapper::Tier& add_store(const std::string& name, const swapper::Layout& layout,
                           const std::vector<std::uint64_t>& tile_elements,
                           const std::filesystem::path& nvme_path);
  // Adds buffers that move such tiles. REQUIRES: add_store was called before.
  pinned_pool::Pool& add_pool(const char* name, std::size_t buffer_bytes, std::size_t count);
  void add_note(std::string_view note) { notes_.emplace_back(note); }

  std::uint32_t weight_bytes_per_element() const noexcept { return weight_bytes_; }
  std::uint64_t nvme_read_bytes() const;
  std::uint64_t nvme_written_bytes() const;
  std::uint64_t buffer_bytes() const;
  // True if all of them are pinned, or there are none.
  bool buffers_pinned() const;
  // Lines to tell the user once: which engine and why, what an earlier run left behind.
  const std::vector<std::string>& notes() const noexcept { return notes_; }
  // What the machine did not grant (huge pages, locking), one line each.
  const std::vector<std::string>& details() const noexcept { return details_; }

 private:
  struct StoreSpec;
  struct Directory;
  struct Cache {
    swapper::CachedTier* tier;
    pinned_pool::Pool* pool;
  };

  void open_engine(const std::vector<std::filesystem::path>& drives);
  // True if tiles on files get room for two generations: as asked for, or where there is plenty.
  bool has_two_generations(const Config& config, const StoreSpec& weights, const StoreSpec& states,
                           Communicator& communicator);
  // Resolves max_in_cpu "auto" of the two stores.
  CachePlan plan_caches(const Config& config, const StoreSpec& weights, const StoreSpec& states,
                        const Tiles& tiles, Communicator& communicator);
  std::shared_ptr<swapper::DirectoryLock> lock_directory(const std::filesystem::path& root);
  std::unique_ptr<pinned_pool::Pool> make_pool(const char* name, std::size_t buffer_bytes,
                                               std::size_t count, const OffloadConfig& offload);
  swapper::RamTierOptions ram_options(const OffloadConfig& offload) const;
  std::unique_ptr<swapper::Tier> make_tier(const StoreSpec& where, DeviceTier** on_device);
  std::unique_ptr<swapper::Tier> make_nvme_tier(const StoreSpec& where);

  std::uint32_t weight_bytes_;
  std::uint32_t rank_;
  aio::EngineOptions engine_options_;
  at::Device device_;
  const DeviceKind& kind_;
  int numa_node_ = -1;  // near the drives; -1: anywhere
  std::vector<std::string> notes_;
  std::vector<std::string> details_;
  std::list<Directory> directories_;     // outlives the stores in them
  std::unique_ptr<aio::Engine> engine_;  // outlives what registers with it
  std::unique_ptr<pinned_pool::Pool> weight_pool_;
  std::unique_ptr<pinned_pool::Pool> update_weight_pool_;
  std::unique_ptr<pinned_pool::Pool> optimizer_pool_;
  std::unique_ptr<swapper::Tier> weights_;
  std::unique_ptr<swapper::Tier> optimizer_;
  std::vector<std::unique_ptr<pinned_pool::Pool>> added_pools_;
  std::vector<std::unique_ptr<swapper::Tier>> added_stores_;
  std::vector<const swapper::Tier*> stores_;  // those of the above that are files
  std::vector<Cache> caches_;                 // of "auto"; the first is evicted first
  std::uint64_t margin_bytes_ = 0;
  std::uint32_t local_ranks_ = 1;
  bool said_pressure_ = false;
  DeviceTier* device_weights_ = nullptr;
  DeviceTier* device_optimizer_ = nullptr;
};

}  // namespace spillway::trainer
