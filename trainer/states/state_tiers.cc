#include "trainer/states/state_tiers.h"
#include <spillway/aio/check.h>
#include <spillway/pinned_pool/topology.h>
#include <spillway/swapper/schedule.h>
#include <spillway/swapper/split_tier.h>
#include <spillway/swapper/tile_store.h>
#include <spillway/trainer/failure.h>
#include "trainer/device/device.h"
#include "trainer/device/device_tier.h"
#include "trainer/plan/optimizer_layout.h"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <system_error>
#include <utility>

#include "trainer/states/store_spec.h"

namespace spillway::trainer {
namespace {

using pinned_pool::Policy;

Policy lock_policy(const OffloadConfig& offload) {
  if (!offload.pin_memory.has_value()) return Policy::kAuto;
  return *offload.pin_memory ? Policy::kRequired : Policy::kOff;
}

std::vector<std::filesystem::path> drives_of(const Config& config) {
  std::vector<std::filesystem::path> drives;
  for (const OffloadConfig* offload : {&config.offload_param, &config.offload_optimizer}) {
    if (offload->device == OffloadDevice::kNvme) drives.push_back(offload->nvme_path);
  }
  return drives;
}

std::vector<std::uint64_t> select(const std::vector<std::uint64_t>& values,
                                  const std::vector<bool>& which, bool wanted) {
  std::vector<std::uint64_t> selected;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (which[i] == wanted) selected.push_back(values[i]);
  }
  return selected;
}

constexpr std::uint64_t kMaxSegments = 128;  // of a store's one generation

std::vector<bool> cached_tiles(const std::vector<std::uint64_t>& elements, std::uint64_t capacity) {
  std::vector<swapper::TileId> order(elements.size());
  std::iota(order.begin(), order.end(), swapper::TileId{0});
  const swapper::Schedule schedule(order, static_cast<std::uint32_t>(elements.size()));
  return swapper::choose_resident(schedule, elements, capacity);
}

}  // namespace

// A rank's own directory under nvme_path: made and locked by us, removed when dropped.
struct StateTiers::Directory {
  std::filesystem::path path;
  std::shared_ptr<swapper::DirectoryLock> lock;

  ~Directory() {
    lock.reset();
    std::error_code ignored;
    std::filesystem::remove(path, ignored);  // only when empty
  }
};

StateTiers::StateTiers(const Config& config, const Tiles& tiles, Communicator& communicator,
                       at::Device device)
    : weight_bytes_(config.dtype == Dtype::kBf16 ? 2 : 4),
      rank_(communicator.rank()),
      engine_options_(config.aio),
      device_(device),
      kind_(kind_of(device)) {
  if (kind_.has_memory_of_its_own() && config.offload_optimizer.device == OffloadDevice::kNone &&
      config.optimizer.state_dtype != StateDtype::kFp32) {
    throw Failure(make_error(ErrorKind::kInvalid, "keep optimizer states on the GPU", "",
                             "optimizer.params.state_dtype must be fp32 there; or offload them: "
                             "zero_optimization.offload_optimizer.device cpu or nvme")
                      .value());
  }
  open_engine(drives_of(config));
  const auto where = [&](const char* name, swapper::Layout layout,
                         const std::vector<std::uint64_t>& elements, const OffloadConfig& offload) {
    const bool on_nvme = offload.device == OffloadDevice::kNvme;
    return StoreSpec{.name = name,
                     .layout = std::move(layout),
                     .tiles = elements,
                     .offload = offload,
                     .lock = on_nvme ? lock_directory(offload.nvme_path) : nullptr,
                     .max_in_cpu_elements = offload.max_in_cpu_elements};
  };
  StoreSpec weights = where("weights", weight_layout(config), tiles.all, config.offload_param);
  StoreSpec states =
      where("optimizer", optimizer_layout(config), tiles.trainable, config.offload_optimizer);

  const auto needs_buffers = [&](const StoreSpec& store) {
    return !store.tiles.empty() &&
           (store.offload.device == OffloadDevice::kNvme ||
            (kind_.has_memory_of_its_own() && store.offload.device == OffloadDevice::kNone));
  };
  const auto counts = [&](const StoreSpec& store) {
    return TileCounts{.tiles = store.tiles.size(),
                      .max_unit_tiles = tiles.max_unit_tiles,
                      .largest_bytes = store.largest_bytes()};
  };
  weights.two_generations = states.two_generations =
      has_two_generations(config, weights, states, communicator);
  const CachePlan plan = plan_caches(config, weights, states, tiles, communicator);
  if (needs_buffers(weights)) {
    weight_pool_ = make_pool("weights", weights.largest_bytes(),
                             weight_buffer_count(config, counts(weights)), config.offload_param);
    update_weight_pool_ =
        make_pool("updated weights", weights.largest_bytes(),
                  update_buffer_count(config, counts(states)), config.offload_param);
  }
  if (needs_buffers(states)) {
    optimizer_pool_ =
        make_pool("optimizer", states.largest_bytes(), update_buffer_count(config, counts(states)),
                  config.offload_optimizer);
  }
  weights.pool = weight_pool_.get();
  states.pool = optimizer_pool_.get();
  if (weights.caches_what_is_free()) weights.max_in_cpu_elements = plan.weight_elements;
  if (states.caches_what_is_free()) states.max_in_cpu_elements = plan.optimizer_elements;
  // Optimizer states first, for a byte of them saves less in a step: the last to be kept.
  optimizer_ = make_tier(states, &device_optimizer_);
  weights_ = make_tier(weights, &device_weights_);
}

StateTiers::~StateTiers() = default;

void StateTiers::open_engine(const std::vector<std::filesystem::path>& drives) {
  if (drives.empty()) return;
  const pinned_pool::IoPlacement near_drives = pinned_pool::place_io(drives);
  aio::EngineOptions options = engine_options_;
  options.cpus = near_drives.cpus;
  numa_node_ = near_drives.numa_node;
  engine_ = value_or_throw(aio::Engine::create(options));
  notes_.push_back("I/O engine: " + engine_->choice());
  if (numa_node_ >= 0) notes_.push_back("I/O threads and buffers: " + near_drives.reason);
}

std::shared_ptr<swapper::DirectoryLock> StateTiers::lock_directory(
    const std::filesystem::path& root) {
  std::error_code error;
  if (!std::filesystem::is_directory(root, error)) {
    throw Failure(make_error(ErrorKind::kNotFound, "open swap directory", root.string(),
                             "nvme_path must be an existing directory")
                      .value());
  }
  const auto path = root / ("spillway-rank-" + std::to_string(rank_));
  for (const Directory& directory : directories_) {
    if (std::filesystem::equivalent(directory.path, path, error)) return directory.lock;
  }
  if (!std::filesystem::create_directory(path, error) && error) {
    throw Failure(errno_error("create swap directory", path.string(), error.value()).value());
  }
  auto lock = value_or_throw(swapper::DirectoryLock::acquire(path));
  if (lock->leftovers_removed() > 0) {
    notes_.push_back("removed " + std::to_string(lock->leftovers_removed()) +
                     " files that an earlier, killed run left in " + path.string());
  }
  directories_.emplace_back(path, lock);
  return lock;
}

std::unique_ptr<pinned_pool::Pool> StateTiers::make_pool(const char* name, std::size_t bytes,
                                                         std::size_t count,
                                                         const OffloadConfig& offload) {
  pinned_pool::PoolOptions options;
  options.buffer_bytes = bytes;
  options.buffer_count = count;
  options.name = std::string(name) + " buffers";
  options.lock = lock_policy(offload);
  options.cuda = kind_.register_host();
  options.numa_node = numa_node_;
  auto pool = value_or_throw(pinned_pool::Pool::create(options, engine_.get()));
  for (const std::string& line : pool->slab().report()) {
    details_.push_back(options.name + ": " + line);
  }
  return pool;
}

swapper::RamTierOptions StateTiers::ram_options(const OffloadConfig& offload) const {
  swapper::RamTierOptions ram;
  ram.lock = lock_policy(offload);
  ram.cuda = kind_.register_host();
  return ram;
}

std::unique_ptr<swapper::Tier> StateTiers::make_tier(const StoreSpec& where,
                                                     DeviceTier** on_device) {
  swapper::RamTierOptions ram = ram_options(where.offload);
  const auto in_ram = [&](const std::vector<std::uint64_t>& elements) {
    return value_or_throw(swapper::make_ram_tier(where.layout, elements, ram));
  };
  switch (where.offload.device) {
    case OffloadDevice::kNone:
      if (kind_.has_memory_of_its_own()) {
        auto tier = DeviceTier::create(where.layout, where.tiles, device_);
        *on_device = tier.get();
        return tier;
      }
      ram.lock = ram.huge_pages = ram.cuda = Policy::kOff;
      return in_ram(where.tiles);
    case OffloadDevice::kCpu:
      return in_ram(where.tiles);
    case OffloadDevice::kNvme:
      break;
  }
  return make_nvme_tier(where);
}

std::unique_ptr<swapper::Tier> StateTiers::make_nvme_tier(const StoreSpec& where) {
  const swapper::RamTierOptions ram = ram_options(where.offload);
  swapper::TileStoreOptions options;
  options.directories = {where.lock->directory()};
  options.locks = {where.lock};
  options.name = where.name;
  if (where.two_generations) options.spare_fraction = 1;
  // A segment has a descriptor, and one that a checkpoint links has two: some hundreds at most.
  options.segment_bytes = std::max(options.segment_bytes, where.all_bytes() / kMaxSegments);
  const auto make_store = [&](const std::vector<std::uint64_t>& elements) {
    auto store =
        value_or_throw(swapper::TileStore::create(*engine_, where.layout, elements, options));
    stores_.push_back(store.get());
    return store;
  };
  const std::vector<bool> cached = cached_tiles(where.tiles, where.max_in_cpu_elements);
  if (std::ranges::find(cached, true) == cached.end()) return make_store(where.tiles);
  if (where.caches_what_is_free()) {
    auto tier = value_or_throw(swapper::CachedTier::create(make_store(where.tiles), cached,
                                                           {.ram = ram, .as_much_as_fits = true}));
    caches_.push_back({tier.get(), where.pool});
    return tier;
  }
  // What the user asked for stays where it is, and needs no place on NVMe.
  auto in_ram =
      value_or_throw(swapper::make_ram_tier(where.layout, select(where.tiles, cached, true), ram));
  return swapper::make_split_tier(cached, std::move(in_ram),
                                  make_store(select(where.tiles, cached, false)));
}

swapper::Tier& StateTiers::add_store(const std::string& name, const swapper::Layout& layout,
                                     const std::vector<std::uint64_t>& tile_elements,
                                     const std::filesystem::path& nvme_path) {
  if (engine_ == nullptr) open_engine({nvme_path});
  swapper::TileStoreOptions options;
  options.locks = {lock_directory(nvme_path)};
  options.directories = {options.locks.front()->directory()};
  options.name = name;
  added_stores_.push_back(
      value_or_throw(swapper::TileStore::create(*engine_, layout, tile_elements, options)));
  stores_.push_back(added_stores_.back().get());
  return *added_stores_.back();
}

pinned_pool::Pool& StateTiers::add_pool(const char* name, std::size_t buffer_bytes,
                                        std::size_t count) {
  SPILLWAY_CHECK(engine_ != nullptr, "the buffers of a store come after it");
  added_pools_.push_back(make_pool(name, buffer_bytes, count, OffloadConfig()));
  return *added_pools_.back();
}

std::uint64_t StateTiers::nvme_read_bytes() const {
  std::uint64_t bytes = 0;
  for (const swapper::Tier* store : stores_) bytes += store->stats().read_bytes;
  return bytes;
}

std::uint64_t StateTiers::nvme_written_bytes() const {
  std::uint64_t bytes = 0;
  for (const swapper::Tier* store : stores_) bytes += store->stats().written_bytes;
  return bytes;
}

std::uint64_t StateTiers::buffer_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto* pool : {weight_pool_.get(), update_weight_pool_.get(), optimizer_pool_.get()}) {
    if (pool != nullptr) bytes += pool->slab().size_bytes();
  }
  for (const auto& pool : added_pools_) bytes += pool->slab().size_bytes();
  return bytes;
}

bool StateTiers::buffers_pinned() const {
  bool pinned = true;
  for (const auto* pool : {weight_pool_.get(), update_weight_pool_.get(), optimizer_pool_.get()}) {
    pinned = pinned && (pool == nullptr || pool->slab().pinned());
  }
  for (const auto& pool : added_pools_) pinned = pinned && pool->slab().pinned();
  return pinned;
}

}  // namespace spillway::trainer
