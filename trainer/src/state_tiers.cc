#include <spillway/pinned_pool/limits.h>
#include <spillway/pinned_pool/topology.h>
#include <spillway/swapper/ram_tier.h>
#include <spillway/swapper/schedule.h>
#include <spillway/swapper/split_tier.h>
#include <spillway/swapper/tile_store.h>
#include <spillway/trainer/device_tier.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/optimizer_layout.h>
#include <spillway/trainer/state_tiers.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <system_error>

namespace spillway::trainer {
namespace {

using pinned_pool::Wish;

// Enough for one tile computing, one being read, one being written, and one to spare.
constexpr std::size_t kOptimizerBuffers = 4;
constexpr std::size_t kMaxWeightBuffers = 16;

Wish lock_wish(const OffloadConfig& offload) {
  if (!offload.pin_memory.has_value()) return Wish::kAuto;
  return *offload.pin_memory ? Wish::kRequired : Wish::kOff;
}

std::vector<std::uint64_t> select(const std::vector<std::uint64_t>& values,
                                  const std::vector<bool>& which, bool wanted) {
  std::vector<std::uint64_t> selected;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (which[i] == wanted) selected.push_back(values[i]);
  }
  return selected;
}

std::vector<bool> cached_tiles(const std::vector<std::uint64_t>& elements, std::uint64_t capacity) {
  std::vector<swapper::TileId> order(elements.size());
  std::iota(order.begin(), order.end(), swapper::TileId{0});
  const swapper::Schedule schedule(order, static_cast<std::uint32_t>(elements.size()));
  return swapper::choose_resident(schedule, elements, capacity);
}

}  // namespace

// One of the two stores and what the configuration says about it.
struct StateTiers::Where {
  const char* name;
  swapper::Layout layout;
  const std::vector<std::uint64_t>& tiles;
  const OffloadConfig& offload;
  std::shared_ptr<swapper::DirectoryLock> lock;
  aio::Engine* engine;
};

StateTiers::StateTiers(const Config& config, const Tiles& tiles, const Communicator& communicator,
                       at::Device device)
    : weight_bytes_(config.dtype == Dtype::kBf16 ? 2 : 4), device_(device) {
  if (device.is_cuda() && config.offload_optimizer.device == OffloadDevice::kNone &&
      config.optimizer.state_dtype != StateDtype::kFp32) {
    throw Failure(make_error(ErrorKind::kInvalid, "keep optimizer states on the GPU", "",
                             "optimizer.params.state_dtype must be fp32 there; or offload them: "
                             "zero_optimization.offload_optimizer.device cpu or nvme")
                      .value());
  }
  open_engine(config);
  const auto largest = [](const std::vector<std::uint64_t>& elements) {
    return elements.empty() ? 0 : *std::max_element(elements.begin(), elements.end());
  };
  const swapper::Layout weights = weight_layout(config);
  const swapper::Layout states = optimizer_layout(config);
  const auto lock_of = [&](const OffloadConfig& offload) {
    return offload.device == OffloadDevice::kNvme ? lock_directory(offload, communicator) : nullptr;
  };
  Where where_weights{
      "weights",    weights, tiles.all, config.offload_param, lock_of(config.offload_param),
      engine_.get()};
  Where where_states{"optimizer",
                     states,
                     tiles.trainable,
                     config.offload_optimizer,
                     lock_of(config.offload_optimizer),
                     engine_.get()};

  const bool on_device = device.is_cuda();
  const auto needs_buffers = [&](const OffloadConfig& offload) {
    return offload.device == OffloadDevice::kNvme ||
           (on_device && offload.device == OffloadDevice::kNone);
  };
  if (needs_buffers(config.offload_param) && largest(tiles.all) > 0) {
    const std::size_t count =
        std::clamp<std::size_t>(2 * tiles.max_unit_tiles, kOptimizerBuffers, kMaxWeightBuffers);
    weight_pool_ =
        make_pool("weights", weights.tile_bytes(largest(tiles.all)), count, config.offload_param);
  }
  if (needs_buffers(config.offload_optimizer) && largest(tiles.trainable) > 0) {
    optimizer_pool_ = make_pool("optimizer", states.tile_bytes(largest(tiles.trainable)),
                                kOptimizerBuffers, config.offload_optimizer);
  }
  weights_ = make_tier(where_weights, &device_weights_);
  optimizer_ = make_tier(where_states, &device_optimizer_);
}

StateTiers::~StateTiers() = default;

StateTiers::Directory::~Directory() {
  lock.reset();
  std::error_code ignored;
  std::filesystem::remove(path, ignored);  // only when empty
}

void StateTiers::open_engine(const Config& config) {
  std::vector<std::filesystem::path> drives;
  for (const OffloadConfig* offload : {&config.offload_param, &config.offload_optimizer}) {
    if (offload->device == OffloadDevice::kNvme) drives.push_back(offload->nvme_path);
  }
  if (drives.empty()) return;
  const pinned_pool::IoPlacement near_drives = pinned_pool::place_io(drives);
  aio::EngineOptions options = config.aio;
  options.cpus = near_drives.cpus;
  numa_node_ = near_drives.numa_node;
  engine_ = value_or_throw(aio::Engine::create(options));
  notes_.push_back("I/O engine: " + engine_->choice());
  if (numa_node_ >= 0) notes_.push_back("I/O threads and buffers: " + near_drives.reason);
}

std::shared_ptr<swapper::DirectoryLock> StateTiers::lock_directory(
    const OffloadConfig& offload, const Communicator& communicator) {
  std::error_code error;
  const std::filesystem::path root = offload.nvme_path;
  if (!std::filesystem::is_directory(root, error)) {
    throw Failure(make_error(ErrorKind::kNotFound, "open swap directory", root.string(),
                             "nvme_path must be an existing directory")
                      .value());
  }
  const auto path = root / ("spillway-rank-" + std::to_string(communicator.rank()));
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
  options.lock = lock_wish(offload);
  options.cuda = device_.is_cuda() ? Wish::kAuto : Wish::kOff;
  options.numa_node = numa_node_;
  auto pool = value_or_throw(pinned_pool::Pool::create(options, engine_.get()));
  for (const std::string& line : pool->slab().report()) {
    details_.push_back(options.name + ": " + line);
  }
  return pool;
}

std::unique_ptr<swapper::Tier> StateTiers::make_tier(const Where& where, DeviceTier** on_device) {
  swapper::RamTierOptions ram;
  ram.lock = lock_wish(where.offload);
  ram.cuda = device_.is_cuda() ? Wish::kAuto : Wish::kOff;
  const auto in_ram = [&](const std::vector<std::uint64_t>& elements) {
    return value_or_throw(swapper::make_ram_tier(where.layout, elements, ram));
  };
  switch (where.offload.device) {
    case OffloadDevice::kNone:
      if (device_.is_cuda()) {
        auto tier = DeviceTier::create(where.layout, where.tiles, device_);
        *on_device = tier.get();
        return tier;
      }
      ram.lock = ram.huge_pages = ram.cuda = Wish::kOff;
      return in_ram(where.tiles);
    case OffloadDevice::kCpu:
      return in_ram(where.tiles);
    case OffloadDevice::kNvme:
      break;
  }
  swapper::TileStoreOptions options;
  options.directories = {where.lock->directory()};
  options.locks = {where.lock};
  options.name = where.name;
  const std::vector<bool> cached = cached_tiles(where.tiles, where.offload.max_in_cpu_elements);
  const auto on_file = select(where.tiles, cached, false);
  auto store =
      value_or_throw(swapper::TileStore::create(*where.engine, where.layout, on_file, options));
  stores_.push_back(store.get());
  if (on_file.size() == where.tiles.size()) return store;
  return swapper::make_split_tier(cached, in_ram(select(where.tiles, cached, true)),
                                  std::move(store));
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
  for (const auto* pool : {weight_pool_.get(), optimizer_pool_.get()}) {
    if (pool != nullptr) bytes += pool->slab().size_bytes();
  }
  return bytes;
}

}  // namespace spillway::trainer
