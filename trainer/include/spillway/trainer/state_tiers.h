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
#include <spillway/swapper/directory_lock.h>
#include <spillway/swapper/tier.h>
#include <spillway/trainer/communicator.h>
#include <spillway/trainer/config.h>
#include <spillway/trainer/partition.h>

#include <filesystem>
#include <list>
#include <memory>
#include <string>
#include <vector>

namespace spillway::trainer {

// Elements a tile may have at most, whatever sub_group_size says: what the buffers hold.
inline constexpr std::uint64_t kMaxTileElements = std::uint64_t{1} << 20;

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
  // Throws Failure.
  StateTiers(const Config& config, const Tiles& tiles, const Communicator& communicator,
             at::Device device);
  ~StateTiers();

  swapper::Tier& weights() noexcept { return *weights_; }
  swapper::Tier& optimizer() noexcept { return *optimizer_; }
  const swapper::Tier& weights() const noexcept { return *weights_; }
  const swapper::Tier& optimizer() const noexcept { return *optimizer_; }
  pinned_pool::Pool* weight_pool() noexcept { return weight_pool_.get(); }
  pinned_pool::Pool* optimizer_pool() noexcept { return optimizer_pool_.get(); }
  // The same tiers when they lie in device memory, else nullptr.
  DeviceTier* device_weights() noexcept { return device_weights_; }
  DeviceTier* device_optimizer() noexcept { return device_optimizer_; }

  std::uint32_t weight_bytes_per_element() const noexcept { return weight_bytes_; }
  std::uint64_t nvme_read_bytes() const;
  std::uint64_t nvme_written_bytes() const;
  std::uint64_t buffer_bytes() const;
  // Lines worth telling the user once: which engine and why, what an earlier run left behind.
  const std::vector<std::string>& notes() const noexcept { return notes_; }
  // What the machine did not grant (huge pages, locking), a line each.
  const std::vector<std::string>& details() const noexcept { return details_; }

 private:
  struct Where;
  // A rank's own directory under nvme_path: made and locked by us, removed when dropped.
  struct Directory {
    std::filesystem::path path;
    std::shared_ptr<swapper::DirectoryLock> lock;
    ~Directory();
  };

  void open_engine(const Config& config);
  std::shared_ptr<swapper::DirectoryLock> lock_directory(const OffloadConfig& offload,
                                                         const Communicator& communicator);
  std::unique_ptr<pinned_pool::Pool> make_pool(const char* name, std::size_t buffer_bytes,
                                               std::size_t count, const OffloadConfig& offload);
  std::unique_ptr<swapper::Tier> make_tier(const Where& where, DeviceTier** on_device);

  std::uint32_t weight_bytes_;
  at::Device device_;
  int numa_node_ = -1;  // near the drives; -1: anywhere
  std::vector<std::string> notes_;
  std::vector<std::string> details_;
  std::list<Directory> directories_;     // outlives the stores in it
  std::unique_ptr<aio::Engine> engine_;  // outlives what registers with it
  std::unique_ptr<pinned_pool::Pool> weight_pool_;
  std::unique_ptr<pinned_pool::Pool> optimizer_pool_;
  std::unique_ptr<swapper::Tier> weights_;
  std::unique_ptr<swapper::Tier> optimizer_;
  std::vector<const swapper::Tier*> stores_;  // those of the above that are files
  DeviceTier* device_weights_ = nullptr;
  DeviceTier* device_optimizer_ = nullptr;
};

}  // namespace spillway::trainer
