// StateTiers: where a model's states live, as configured: the aio engine, the directory lock, the
// two tiers (weights; optimizer states) and the pools of buffers that move their tiles.
//
// What a tile holds says optimizer_layout.h. Keeping weights and optimizer states in two stores
// makes forward's reads contiguous and lets each be offloaded on its own. Built before anything is
// allocated elsewhere: the plan is compared with the machine's limits and refused with the
// arithmetic. All members may be used by one thread at a time.
#pragma once

#include <ATen/core/Tensor.h>
#include <spillway/aio/engine.h>
#include <spillway/pinned_pool/pool.h>
#include <spillway/swapper/cached_tier.h>
#include <spillway/swapper/directory_lock.h>
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
  // For the weights of tiles being updated: apart from those of the fetcher, which may wait for
  // the update while the update waits for a buffer.
  pinned_pool::Pool* update_weight_pool() noexcept { return update_weight_pool_.get(); }
  // The same tiers when they lie in device memory, else nullptr.
  DeviceTier* device_weights() noexcept { return device_weights_; }
  DeviceTier* device_optimizer() noexcept { return device_optimizer_; }

  // Whether relieve_pressure would have something to do.
  bool under_pressure() const;
  // Gives RAM that a max_in_cpu of "auto" took back to those who need it now: when less than half
  // of the margin is free (counting what the process took at its peak as needed again), cached
  // tiles go to their places on NVMe until the margin is. A note says so. Blocks; cheap when there
  // is nothing to do. REQUIRES: nobody reads, updates or holds a tile. Throws Failure.
  void relieve_pressure();
  // As relieve_pressure, with what the machine would say.
  void relieve_pressure(const pinned_pool::MemoryLimits& limits,
                        const pinned_pool::MemoryUsage& usage);
  // Tiles that are no states, with the buffers that move them: gradients, activations. Made when it
  // turns out that they must leave RAM, and kept with the states.
  // Throws Failure: no space, not a directory, in use by another job.
  swapper::Tier& add_store(const std::string& name, const swapper::Layout& layout,
                           const std::vector<std::uint64_t>& tile_elements,
                           const std::filesystem::path& nvme_path);
  // REQUIRES: add_store was called before.
  pinned_pool::Pool& add_pool(const char* name, std::size_t buffer_bytes, std::size_t count);
  void add_note(std::string_view note) { notes_.emplace_back(note); }

  std::uint32_t weight_bytes_per_element() const noexcept { return weight_bytes_; }
  std::uint64_t nvme_read_bytes() const;
  std::uint64_t nvme_written_bytes() const;
  std::uint64_t buffer_bytes() const;
  // Lines worth telling the user once: which engine and why, what an earlier run left behind.
  const std::vector<std::string>& notes() const noexcept { return notes_; }
  // What the machine did not grant (huge pages, locking), a line each.
  const std::vector<std::string>& details() const noexcept { return details_; }

 private:
  static std::uint64_t left_bytes(const pinned_pool::MemoryLimits& limits,
                                  const pinned_pool::MemoryUsage& usage);
  struct StoreSpec;
  // A rank's own directory under nvme_path: made and locked by us, removed when dropped.
  struct Directory {
    std::filesystem::path path;
    std::shared_ptr<swapper::DirectoryLock> lock;
    ~Directory();
  };

  void open_engine(const std::vector<std::filesystem::path>& drives);
  // Whether tiles on files keep room for two generations: as asked for, or where there is plenty.
  bool has_two_generations(const Config& config, const StoreSpec& weights, const StoreSpec& states,
                           Communicator& communicator);
  // What max_in_cpu of "auto" comes to for the two stores.
  CachePlan plan_caches(const Config& config, const StoreSpec& weights, const StoreSpec& states,
                        const Tiles& tiles, Communicator& communicator);
  std::shared_ptr<swapper::DirectoryLock> lock_directory(const std::filesystem::path& root);
  std::unique_ptr<pinned_pool::Pool> make_pool(const char* name, std::size_t buffer_bytes,
                                               std::size_t count, const OffloadConfig& offload);
  std::unique_ptr<swapper::Tier> make_tier(const StoreSpec& where, DeviceTier** on_device);
  std::unique_ptr<swapper::Tier> make_nvme_tier(const StoreSpec& where);

  std::uint32_t weight_bytes_;
  std::uint32_t rank_;
  aio::EngineOptions engine_options_;
  at::Device device_;
  int numa_node_ = -1;  // near the drives; -1: anywhere
  std::vector<std::string> notes_;
  std::vector<std::string> details_;
  std::list<Directory> directories_;     // outlives the stores in it
  std::unique_ptr<aio::Engine> engine_;  // outlives what registers with it
  std::unique_ptr<pinned_pool::Pool> weight_pool_;
  std::unique_ptr<pinned_pool::Pool> update_weight_pool_;
  std::unique_ptr<pinned_pool::Pool> optimizer_pool_;
  std::unique_ptr<swapper::Tier> weights_;
  std::unique_ptr<swapper::Tier> optimizer_;
  std::vector<std::unique_ptr<pinned_pool::Pool>> added_pools_;
  std::vector<std::unique_ptr<swapper::Tier>> added_stores_;
  std::vector<const swapper::Tier*> stores_;  // those of the above that are files
  // Those that hold what was free: the first one is the first to give it back.
  struct Cache {
    swapper::CachedTier* tier = nullptr;
    pinned_pool::Pool* pool = nullptr;
  };
  std::vector<Cache> caches_;
  std::uint64_t margin_bytes_ = 0;
  std::uint32_t local_ranks_ = 1;
  bool said_pressure_ = false;
  DeviceTier* device_weights_ = nullptr;
  DeviceTier* device_optimizer_ = nullptr;
};

}  // namespace spillway::trainer
